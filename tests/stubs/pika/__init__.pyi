"""A stub of the part of pika 1.4 that busmon and its tests use, private names included. pika ships no types."""

from pika import adapters as adapters
from pika import channel as channel
from pika import compat as compat
from pika import connection as connection
from pika import data as data
from pika import exceptions as exceptions
from pika import frame as frame
from pika import spec as spec
from pika.adapters import BlockingConnection as BlockingConnection
from pika.adapters import SelectConnection as SelectConnection
from pika.connection import ConnectionParameters as ConnectionParameters
from pika.connection import SSLOptions as SSLOptions
from pika.connection import URLParameters as URLParameters
from pika.credentials import PlainCredentials as PlainCredentials
from pika.delivery_mode import DeliveryMode as DeliveryMode
from pika.spec import BasicProperties as BasicProperties
