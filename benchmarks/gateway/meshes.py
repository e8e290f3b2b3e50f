"""This gateway's Envoy on a policy, without the rest of a mesh: published, started, asked, ended."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from benchmarks.gateway.envoys import CLIENT, SECRET
from benchmarks.serving.processes import free_port
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tulle.config import Settings
from tulle.gateway.envoy import Gateway
from tulle.gateway.policies.listed import parse_policies
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService, Policy, RateLimit
from tulle.gateway.processors import Processors
from tulle.gateway.secret import hash_secret
from tulle.serving.access import Access, Public, Tokens

PLENTY = RateLimit.parse("1000000/1s")
ISSUER = "https://issuer.example/"


@dataclass(frozen=True)
class Running:
    """A gateway that answers, at its port, and the processes of it."""

    gateway: Gateway
    port: int
    processes: tuple[psutil.Process, ...]


def settings_in(folder: Path) -> Settings:
    """A mesh in this folder, with an Envoy of one thread, as its peers have one."""
    return replace(Settings(folder=folder), gateway_port=free_port(), gateway_concurrency=1)


@contextmanager
def running(folder: Path, policy: GatewayPolicy, *, processor: bool = False) -> Iterator[Running]:
    """The gateway with this policy in force, with a processor where one is needed."""
    settings = settings_in(folder)
    gateway = Gateway(settings)
    gateway.publish(policy)
    with ExitStack() as stack:
        processes = [stack.enter_context(started(gateway))]
        if processor:
            processes.append(stack.enter_context(_processor(settings)))
        yield Running(gateway, settings.gateway_port, tuple(processes))


@contextmanager
def started(gateway: Gateway) -> Iterator[psutil.Process]:
    """An Envoy that has opened its doors."""
    command = gateway.command()
    with subprocess.Popen(command.argv, cwd=command.cwd, stderr=subprocess.DEVNULL) as process:
        try:
            while not gateway.ready():
                if process.poll() is not None:
                    sys.exit("Envoy did not start")
                time.sleep(0.005)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()
            gateway.process.forget()


@contextmanager
def _processor(settings: Settings) -> Iterator[psutil.Process]:
    argv = [sys.executable, "-m", "tulle.gateway.processing.process"]
    with subprocess.Popen(argv, cwd=settings.state_folder, stderr=subprocess.DEVNULL) as process:
        try:
            while Processors(settings.state_folder, 1).states() == [None]:
                if process.poll() is not None:
                    sys.exit("the processor did not start")
                time.sleep(0.02)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def policies(text: str) -> tuple[Policy, ...]:
    """A list of policies as it is written."""
    return tuple(one.policy for one in parse_policies(text))


def for_one(upstream: int, *, public: bool = False, listed: str = "", keys: str = "") -> GatewayPolicy:
    """The service `bench` as it is asked: by its contract, by everybody, or with tokens of the issuer of `keys`.

    Tokens name the application, whose contract is under a tier of two windows.
    """
    access = Access()
    contract = Contract(CLIENT, "bench", PLENTY)
    if public:
        access = Access(contracts=False, public=Public(str(PLENTY)))
    elif keys:
        access = Access(contracts=False, jwt=Tokens(ISSUER, jwks=keys, contract=True))
        contract = Contract(CLIENT, "bench", PLENTY, more=(RateLimit.parse("1000000000/1d"),), tier="gold")
    service = ManagedService(
        "bench",
        (f"127.0.0.1:{upstream}",),
        100_000,
        access=access,
        policies=policies(listed) if listed else (),
    )
    return GatewayPolicy.of(
        services=[service],
        clients=[Client(CLIENT, hash_secret(SECRET))],
        contracts=[contract],
    )


def basic(client: str = CLIENT, secret: str = SECRET) -> dict[str, str]:
    """The header of a client that signs in."""
    return {"authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()}


def token_and_keys() -> tuple[str, str]:
    """A token that is good for an hour, and the public keys of who signed it."""
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.public_key().public_numbers()
    known = {"kty": "RSA", "kid": "r", "n": _octets(numbers.n), "e": _octets(numbers.e)}
    said = {"iss": ISSUER, "client_id": CLIENT, "exp": int(time.time()) + 3600}
    signed = f"{_encoded({'alg': 'RS256', 'kid': 'r'})}.{_encoded(said)}"
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{_encoded(signature)}", json.dumps({"keys": [known]})


def _encoded(data: bytes | dict[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _octets(number: int) -> str:
    return _encoded(number.to_bytes((number.bit_length() + 7) // 8))
