"""What the gateway does not have as it is wanted, in words: why, what callers meet meanwhile, and what to do."""

from __future__ import annotations

import pytest

from tulle.gateway.faults import Fault


@pytest.mark.parametrize(
    ("service", "environment", "command"),
    [
        ("fraud", "", "`tulle service policies fraud --as-packaged`"),
        ("fraud", "test", "`tulle service policies fraud --as-packaged --environment test`"),
        ("orders@v1", "", "`tulle api policies orders v1 --reset`"),
        ("orders@v1", "test", "`tulle api policies orders v1 --reset --env test`"),
    ],
)
def test_what_to_do_about_a_fault_is_a_command_for_what_has_it(
    service: str, environment: str, command: str
) -> None:
    told = Fault(service, environment, "Envoy refuses it", 1.0, is_kept=False).sentence
    assert "it answers nobody: Envoy refuses it (take back what was changed" in told
    assert f"{command} takes back" in told


def test_a_fault_whose_cause_says_what_to_do_says_that() -> None:
    found = Fault("fraud", "", "set 'walls' cannot be read", 1.0, is_kept=True, hint="mend it there")
    assert found.sentence.endswith("it answers as before: set 'walls' cannot be read (mend it there)")
