"""What QGIS's network settings say about getting to an address."""

from __future__ import annotations

from qgis.core import QgsNetworkAccessManager
from qgis.PyQt.QtCore import QUrl
from qgis.PyQt.QtNetwork import QNetworkProxy, QNetworkProxyQuery

_HTTP = (QNetworkProxy.ProxyType.HttpProxy, QNetworkProxy.ProxyType.HttpCachingProxy)


def proxy_url(address: str) -> str:
    """Return the proxy on the way to an address, as QGIS itself would take it; empty for none.

    QGIS knows the system's proxies, addresses without one, other factories of proxies, and stored logins. A SOCKS proxy
    is named as well: the engine says that it cannot use one, which is better than to go past it.

    Args:
        address: URL.

    Returns:
        Its URL, with user and password where QGIS has them, percent-encoded.
    """
    factory = QgsNetworkAccessManager.instance().proxyFactory()
    found = factory.queryProxy(QNetworkProxyQuery(QUrl(address))) if factory is not None else []
    proxy = next(iter(found), QNetworkProxy())
    if proxy.type() == QNetworkProxy.ProxyType.DefaultProxy:
        proxy = QNetworkProxy.applicationProxy()
    if not proxy.hostName() or proxy.type() not in (*_HTTP, QNetworkProxy.ProxyType.Socks5Proxy):
        return ""
    url = QUrl()
    url.setScheme("http" if proxy.type() in _HTTP else "socks5h")
    url.setHost(proxy.hostName())
    if proxy.port():
        url.setPort(proxy.port())
    if proxy.user():
        url.setUserName(proxy.user())
        url.setPassword(proxy.password())
    return str(url.toString(QUrl.ComponentFormattingOption.FullyEncoded))
