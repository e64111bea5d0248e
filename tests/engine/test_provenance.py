"""What the attributes say, and what they must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samtune.engine.provenance import FIELDS, bands_text, prompt_kind, raster_name, without_secrets


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/data/a b/scene.tif", "scene.tif"),
        ("scene.tif", "scene.tif"),
        (r"C:\data\scene.tif", "scene.tif"),
        ("C:/data/scene.tif", "scene.tif"),
        ("/data/what?.tif", "what?.tif"),
        ("/data/scene.tif|option:OVERVIEW_LEVEL=1", "scene.tif"),
        ("/data/store.zarr/", "store.zarr"),
        ('NETCDF:"/data/x.nc":t', "NETCDF:x.nc:t"),
        ("NETCDF:/data/x.nc:t", "NETCDF:x.nc:t"),
        (r'NETCDF:"C:\data\x.nc":t', "NETCDF:x.nc:t"),
        (r"NETCDF:C:\data\x.nc:t", "NETCDF:x.nc:t"),
        ("GTIFF_DIR:2:/data/pages.tif", "GTIFF_DIR:2:pages.tif"),
        ('HDF5:"/data/x.h5"://group/band', "HDF5:x.h5:band"),
        ("/vsizip//data/a.zip/b.tif", "b.tif"),
        ("/vsis3/bucket/key/scene.tif", "scene.tif"),
        ("/vsicurl/https://host/scene.tif?sv=2020&sig=SECRET", "scene.tif"),
        ("https://user:SECRET@host/scene.tif", "scene.tif"),
        ("https://user:SECRET@host", "host"),
        ("/vsicurl/https://host/scene.tif%3Fsig%3DSECRET", "scene.tif"),
        ("/vsicurl?url=https%3A%2F%2Fuser%3ASECRET%40host%2Fscene.tif&use_head=no", "vsicurl"),
        ('ZARR:"/vsicurl/https://host/x.zarr?sig=SECRET":/band', "ZARR:x.zarr:band"),
        ("PG:dbname='x' user='y' password='SECRET' table='z'", "PG"),
        ("georaster:user/SECRET,db,table", "georaster"),
        ("WMS:https://host/wms?token=SECRET", "WMS"),
        ("url=https://host/wms&username=u&password=SECRET", "service"),
        ("<GDAL_WMS><Service><UserPwd>u:SECRET</UserPwd></Service></GDAL_WMS>", "GDAL_WMS"),
        ('{"type": "gdal", "token": "SECRET"}', "JSON"),
        ("", ""),
    ],
)
def test_a_raster_is_named_without_folders_and_secrets(uri: str, name: str) -> None:
    assert raster_name(uri) == name


WORD = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+%_-.", min_size=1, max_size=12)


@given(WORD, WORD, WORD)
def test_no_login_or_signature_gets_out(user: str, word: str, signature: str) -> None:
    login, query = f"<{user}>:<{word}>".replace("<", "u~").replace(">", "~u"), f"s~{signature}~s"
    url = f"https://{login}@host/folder/scene.tif?sig={query}"
    for text in (raster_name(f"/vsicurl/{url}"), raster_name(url), without_secrets(f"Reading {url} failed: 403")):
        assert "~" not in text
    assert without_secrets(f"Reading {url} failed: 403") == "Reading https://***@host/folder/scene.tif?*** failed: 403"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@host.org/m/vit_b.pth: HTTP status 403", "https://***@host.org/m/vit_b.pth: HTTP status 403"),
        ("https://u:p@ss@mirror.org/x", "https://***@mirror.org/x"),
        ("PG: dbname='x' password='a b' host=h", "PG: dbname='x' password=*** host=h"),
        ("password=p, host=h", "password=***, host=h"),
        ("'/vsicurl/http://h/a.tif?sig=1&se=2' not recognized", "'/vsicurl/http://h/a.tif?***' not recognized"),
        ("Is it there? Write to me@host.org", "Is it there? Write to me@host.org"),
        ("Open https://host/a.tif", "Open https://host/a.tif"),
    ],
)  # fmt: skip
def test_secrets_are_hidden_in_texts(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(
    ("points", "box", "kind"),
    [(True, False, "point"), (False, True, "box"), (True, True, "box+point"), (False, False, "")],
)
def test_the_kind_of_prompt(points: bool, box: bool, kind: str) -> None:
    assert prompt_kind(points=points, box=box) == kind


def test_bands_are_written_as_they_are_typed() -> None:
    assert bands_text((4, 3, 2)) == "4,3,2"
    assert bands_text((1,)) == "1"


def test_field_names_fit_into_a_shapefile() -> None:
    assert all(len(name) <= 10 for name in FIELDS)
