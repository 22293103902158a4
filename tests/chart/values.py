"""The values that the chart is rendered with: one table, so that each test covers every kind of installation."""

from typing import Any

EVERYTHING: dict[str, Any] = {
    "image": {"repository": "registry.example/busmon", "digest": "sha256:" + "a" * 64, "pullSecrets": ["registry"]},
    "urls": {
        "amqp": {"secret": "rabbitmq-default-user", "key": "connection_string"},
        "management": {"secret": "operator", "key": "management_url"},
        "postgres": {"secret": "postgres", "key": "url"},
        "redis": {"secret": "redis", "key": "url"},
    },
    "tls": {"secret": "amqp-ca"},
    "settings": {
        "workers": 4,
        "max_bytes": 268435456,
        "flush_interval_seconds": 0.1,
        "exchange": "telemetry",
        "formats": ["statsd.*=statsd", "otlp_metrics=otlp"],
        "postgres_migration_query": 'SELECT "version" FROM migrations',
    },
    "catalogue": {
        "search.toml": '[counter.searches_total]\nhelp = "Searches."\nlabels = []\n',
        "billing.toml": "# none\n",
    },
    "topology": {
        "file": "shards = 8\n",
        "declare": {
            "enabled": True,
            "management": {"secret": "busmon-operator"},
            "passwords": {"secret": "busmon-passwords"},
        },
    },
    "web": {"secret": "busmon-web", "scheme": "https"},
    "listenAddress": "[::]",
    "service": {"type": "LoadBalancer", "port": 443, "annotations": {"example.com/internal": "true"}},
    "persistence": {
        "size": "10Gi",
        "storageClassName": "fast",
        "accessModes": ["ReadWriteOncePod"],
        "annotations": {"example.com/backup": "true"},
    },
    "serviceAccountName": "busmon",
    "podAnnotations": {"example.com/owner": "platform"},
    "podLabels": {"team": "platform"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]
            }
        }
    },
    "priorityClassName": "high",
    "extraEnv": [
        {
            "name": "BUSMON_DEPENDENCIES",
            "valueFrom": {"secretKeyRef": {"name": "dependencies", "key": "urls"}},
        }
    ],
    "podDisruptionBudget": {"maxUnavailable": 0},
    "networkPolicy": {
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "postgres"}}}], "ports": [{"port": 5432}]}],
    },
    "monitoring": {
        "labels": {"release": "kube-prometheus-stack"},
        "podMonitor": {
            "enabled": True,
            "endpoint": {
                "tlsConfig": {"ca": {"secret": {"name": "busmon-web", "key": "ca.crt"}}, "serverName": "busmon"},
                "basicAuth": {
                    "username": {"name": "busmon-scraper", "key": "username"},
                    "password": {"name": "busmon-scraper", "key": "password"},
                },
            },
        },
        "rabbitmqPodMonitor": {"enabled": True, "namespaces": ["rabbitmq"]},
        "rules": {
            "enabled": True,
            "runbooksUrl": "https://wiki.example/busmon",
            "dashboardsUrl": "https://grafana.example/d",
        },
        "dashboards": {"enabled": True, "namespace": "monitoring"},
    },
}

MONITORED: dict[str, Any] = {
    "monitoring": {
        **{name: {"enabled": True} for name in ("podMonitor", "rabbitmqPodMonitor", "rules", "dashboards")},
    }
}

INSTALLATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "monitored": MONITORED,
    "nothing optional": {"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
    "an existing claim": {"persistence": {"existingClaim": "busmon-registry"}},
    "a job of the topology alone": {"topology": {"declare": {"enabled": True}}},
    "TLS without passwords": {"web": {"secret": "web", "scheme": "https"}, "tls": {"secret": "ca"}},
    "replicated": {
        "replication": {"enabled": True, "replicas": 3},
        "topology": {"declare": {"enabled": True}},
        "persistence": {"size": "5Gi"},
        **MONITORED,
    },
    "users of OpenShift's": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
}
