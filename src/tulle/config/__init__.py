"""The settings of a mesh: all on one page (`settings`), and the parts of them that are values of their own."""

from tulle.config.alert_channel import (
    ALERT_EVENTS,
    ALERT_TYPES,
    AlertChannel,
    secret_in_environment,
)
from tulle.config.environment import PRODUCTION, STAGES, TEST_QUERIES, Environment
from tulle.config.gateway_tls import PLAIN_DOORS, GatewayTls
from tulle.config.policy_set import PolicySet
from tulle.config.settings import BOUNDS, STATE_FOLDER, TAKEN_UP, Settings, settings_from
from tulle.config.warehouse import Warehouse
from tulle.config.watch import WATCH_MEASURES, WATCH_SEVERITIES, Watch, watch_from

__all__ = [
    "ALERT_EVENTS",
    "ALERT_TYPES",
    "BOUNDS",
    "PLAIN_DOORS",
    "PRODUCTION",
    "STAGES",
    "STATE_FOLDER",
    "TAKEN_UP",
    "TEST_QUERIES",
    "WATCH_MEASURES",
    "WATCH_SEVERITIES",
    "AlertChannel",
    "Environment",
    "GatewayTls",
    "PolicySet",
    "Settings",
    "Warehouse",
    "Watch",
    "secret_in_environment",
    "settings_from",
    "watch_from",
]
