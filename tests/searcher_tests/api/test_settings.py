"""Valid options of a daemon; invalid ones are refused before a file or port is opened."""

from pathlib import Path
from typing import Any

import pytest

from searcher.api.settings import ServerSettings
from searcher.errors import UserError

HERE = Path("lab")


@pytest.mark.parametrize(("options", "said"), [
    ({"host": "0.0.0.0"}, "Add --tls"), ({"host": "192.168.1.2"}, "--insecure-plain-http"),
    ({"host": "lab.example"}, "--tls"), ({"host": "::"}, "--tls"),
    ({"certificate": HERE}, "--certificate and --key belong together"),
    ({"key": HERE}, "belong together"), ({"builders": -1}, "--builders -1"),
    ({"port": 70_000}, "--port 70000"), ({"tasks": ("os",)}, "package.module:factory"),
    ({"tasks": ("os:system('x')",)}, "package.module:factory"),
    ({"tasks": ("a:b:c",)}, "package.module:factory"),
    ({"advertise": "lab.example"}, "must be a URL"),
])
def test_refusals_name_the_remedy(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match="^.*") as refused:
        ServerSettings(HERE, **options)
    assert said in str(refused.value)


@pytest.mark.parametrize("options", [
    {}, {"host": "127.0.0.2"}, {"host": "::1"}, {"host": "localhost"},
    {"host": "0.0.0.0", "tls": True}, {"host": "0.0.0.0", "insecure_plain_http": True},
    {"host": "0.0.0.0", "certificate": HERE, "key": HERE}, {"tasks": ("lab.tasks:stripes",)},
])
def test_valid_options(options: dict[str, Any]) -> None:
    ServerSettings(HERE, **options)


def test_urls() -> None:
    assert ServerSettings(HERE).local_url(8700) == "http://127.0.0.1:8700"
    assert ServerSettings(HERE, "0.0.0.0", tls=True).local_url(1) == "https://127.0.0.1:1"
    assert ServerSettings(HERE, "::", tls=True).local_url(1) == "https://[::1]:1"
    assert ServerSettings(HERE, "10.0.0.1", tls=True).local_url(1) == "https://10.0.0.1:1"
