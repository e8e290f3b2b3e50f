"""`tulle gateway` and its page in the reference name the same commands and settings."""

from __future__ import annotations

import re
from pathlib import Path

from tulle.cli.gateway import gateway
from tulle.config import GatewayTls

PAGE = (Path(__file__).parents[2] / "docs/reference/gateway.md").read_text()


def test_every_command_is_told_in_the_reference_and_no_other_one() -> None:
    told = set(re.findall(r"^\| `tulle gateway ([a-z]+)", PAGE, re.MULTILINE))
    assert told == set(gateway.commands)


def test_every_command_has_json_and_says_what_it_does() -> None:
    for name, command in gateway.commands.items():
        assert "as_json" in {parameter.name for parameter in command.params}, name
        assert command.help, name


def test_settings_that_the_page_names_are_there() -> None:
    said = set(re.findall(r"`([a-z_]+):", PAGE)) - {"gateway_tls"}
    assert {"certificate", "key", "names", "plain_port", "hsts_seconds", "self_signed"} <= said
    assert said - {"plain"} <= {*GatewayTls.__slots__}
