"""A broker's second entrance, over TLS: opened on a node that runs, by RabbitMQ's own command line."""

from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from busmon.demo.broker import PrivateNode
from busmon.demo.rabbitmq import LOOPBACK, free_ports
from tests.certificates import Authority


class Entrance(NamedTuple):
    """A TLS listener, and the CA that vouches for it.

    Attributes:
        port: on the loopback interface.
        authority: signed its certificate, and has to have signed a client's.
    """

    port: int
    authority: Authority

    def amqp_url(self, virtual_host: str, userinfo: str = "guest:guest@", **options: str | Path) -> str:
        """How to reach a virtual host through it."""
        query = "&".join(f"{name}={quote(str(value), safe='/')}" for name, value in options.items())
        return f"amqps://{userinfo}localhost:{self.port}/{virtual_host}?{query}"


def open_entrance(node: PrivateNode, directory: Path) -> Entrance:
    """Let clients in that have a certificate, under the name in its subject, or with a password."""
    authority = Authority(directory)
    certificate, key = authority.for_this_host("broker")
    (port,) = free_ports(1)
    options = (
        f'[{{cacertfile, "{authority.ca}"}}, {{certfile, "{certificate}"}}, {{keyfile, "{key}"}}, '
        "{verify, verify_peer}, {fail_if_no_peer_cert, false}]"
    )
    # What the plugin rabbitmq_auth_mechanism_ssl does at a node's start; each call of rabbitmqctl takes two seconds.
    node.rabbitmqctl(
        "eval",
        "application:load(rabbitmq_auth_mechanism_ssl), application:set_env(rabbit, ssl_cert_login_from, common_name), "
        "application:set_env(rabbit, auth_mechanisms, ['PLAIN', 'AMQPLAIN', 'EXTERNAL']), "
        f"application:set_env(rabbit, ssl_options, {options}), "
        'rabbit_registry:register(auth_mechanism, <<"EXTERNAL">>, rabbit_auth_mechanism_ssl), '
        f'rabbit_networking:start_ssl_listener({{"{LOOPBACK}", {port}}}, {options}, 2).',
    )
    return Entrance(port, authority)
