"""The proxy on the way to an address, as QGIS's network settings have it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsApplication, QgsNetworkAccessManager, QgsSettings
from qgis.PyQt.QtNetwork import QNetworkProxy
from samtune.plugin.network import proxy_url

MODELS = "https://models.example/sam.pth"
NAMES = ("Enabled", "Type", "Host", "Port", "User", "Password", "ExcludedUrls")


class Proxy:
    """QGIS's proxy settings; a change holds at once, as after the options dialog."""

    def __init__(self) -> None:
        self.settings = QgsSettings()

    def set(self, **values: object) -> None:
        for name, value in values.items():
            self.settings.setValue("proxy/noProxyUrls" if name == "no" else f"proxy/proxy{name}", value)
        QgsNetworkAccessManager.instance().setupDefaultProxyAndCache()


@pytest.fixture
def proxy(qgis_app: QgsApplication, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = Proxy()
    keys = [*(f"proxy/proxy{name}" for name in NAMES), "proxy/noProxyUrls"]
    before = {key: made.settings.value(key) for key in keys}
    for key in keys:
        made.settings.remove(key)
    made.set()
    yield made
    for key, value in before.items():
        made.settings.setValue(key, value) if value is not None else made.settings.remove(key)
    made.set()


def test_no_proxy_unless_it_is_switched_on(proxy: Proxy) -> None:
    proxy.set(Enabled=False, Host="proxy.example", Port="3128", Type="HttpProxy")
    assert proxy_url(MODELS) == ""


@pytest.mark.parametrize("kind", ["HttpProxy", "HttpCachingProxy"])
def test_http_proxy(proxy: Proxy, kind: str) -> None:
    proxy.set(Enabled=True, Host="proxy.example", Port="3128", Type=kind)
    assert proxy_url(MODELS) == "http://proxy.example:3128"


def test_login_is_encoded(proxy: Proxy) -> None:
    proxy.set(Enabled=True, Host="proxy.example", Port="3128", Type="HttpProxy", User="anna@work", Password="a:b/c")
    assert proxy_url(MODELS) == "http://anna%40work:a:b%2Fc@proxy.example:3128"


def test_socks_is_named_so_that_the_engine_can_say_no(proxy: Proxy) -> None:
    proxy.set(Enabled=True, Host="proxy.example", Port="1080", Type="Socks5Proxy")
    assert proxy_url(MODELS) == "socks5h://proxy.example:1080"


def test_addresses_without_a_proxy(proxy: Proxy) -> None:
    proxy.set(Enabled=True, Host="proxy.example", Port="3128", Type="HttpProxy", no=["https://models.example"])
    assert proxy_url(MODELS) == ""
    assert proxy_url("https://elsewhere.example/sam.pth") == "http://proxy.example:3128"


def test_proxy_of_the_system(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://system.example:8080")
    proxy.set(Enabled=True, Type="DefaultProxy", Host="", Port="")
    assert proxy_url(MODELS) == "http://system.example:8080"


def test_proxy_of_the_application(proxy: Proxy) -> None:
    proxy.set(Enabled=False)
    before = QNetworkProxy.applicationProxy()
    QNetworkProxy.setApplicationProxy(QNetworkProxy(QNetworkProxy.ProxyType.HttpProxy, "app.example", 81))
    try:
        assert proxy_url(MODELS) == "http://app.example:81"
    finally:
        QNetworkProxy.setApplicationProxy(before)
