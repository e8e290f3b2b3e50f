"""Mutual TLS in Envoy's words: what either side of a hop shows, and whom it believes.

Pure. TLS 1.3 only. No session is resumed: a resumed one would let in who was let in before, whatever has been changed
since. The roots, and the gateway's certificate, are watched files, so that new ones need no new configuration.
"""

from __future__ import annotations

from typing import Any, Final

from tulle.gateway.envoy_values import Json, typed
from tulle.gateway.trust.identity import Identity

FOLDER: Final = "run/trust"  # relative to .tulle/: a file for each part of the mesh
BUNDLE: Final = "bundle"  # and one with the roots that are trusted
GATEWAY_FILE: Final = "gateway"  # the name of the gateway's own
_TLS: Final = "envoy.extensions.transport_sockets.tls.v3"
_PARAMETERS: Final[Json] = {
    "tls_minimum_protocol_version": "TLSv1_3",
    "tls_maximum_protocol_version": "TLSv1_3",
}


def watched_certificate(name: str) -> Json:
    """A certificate in the file `name`, which Envoy watches. Each costs it one of the few watchers a user may have."""
    return {"tls_certificate_sds_secret_configs": [_file(name)]}


def written_certificate(certificate: str, key: str) -> Json:
    """A certificate in place, PEM: another one is another configuration."""
    chain, private = {"inline_string": certificate}, {"inline_string": key}
    return {"tls_certificates": [{"certificate_chain": chain, "private_key": private}]}


def _file(name: str) -> Json:
    source = {"path_config_source": {"path": f"{FOLDER}/{name}.json"}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}


def accepting(**own: Any) -> Json:
    """The side that is called: shows its certificate, lets nobody in without one of the mesh's.

    `own` is its certificate, as `watched_certificate` or `written_certificate` say it.
    """
    return {
        "name": "tls",
        "typed_config": typed(
            f"{_TLS}.DownstreamTlsContext",
            common_tls_context={
                "tls_params": _PARAMETERS,
                **own,
                "validation_context_sds_secret_config": _file(BUNDLE),
            },
            require_client_certificate=True,
            disable_stateless_session_resumption=True,
            disable_stateful_session_resumption=True,
        ),
    }


def calling(own: str, other: Identity) -> Json:
    """The side that calls `other`: shows the certificate in the file `own`, talks to nobody but `other`."""
    san = {"san_type": "URI", "matcher": {"exact": other.uri}}
    return {
        "name": "tls",
        "typed_config": typed(
            f"{_TLS}.UpstreamTlsContext",
            common_tls_context={
                "tls_params": _PARAMETERS,
                **watched_certificate(own),
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": [san]},
                    "validation_context_sds_secret_config": _file(BUNDLE),
                },
            },
            sni=other.host,
            max_session_keys=0,
        ),
    }
