"""Kubernetes' pods in the engine: what a kubelet would do with a rendered pod, by Docker's options.

User, groups, capabilities, seccomp profile, limits, variables and mounts are the pod's. Volumes are directories that
stay until the node goes, with the modes, links and groups that a kubelet gives them. A field that Docker has no option
for is an error.
"""

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engine.engine import CACHE, Engine

Spec = dict[str, Any]

_PODS = CACHE / "pods"
_INSIDE = Path("/srv/pods")
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_KNOWN = {
    *("automountServiceAccountToken", "enableServiceLinks", "securityContext", "terminationGracePeriodSeconds"),
    *("initContainers", "containers", "volumes", "restartPolicy"),
}


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a cluster.

    Attributes:
        engine: runs the containers.
        network: the Docker network that pods are in.
        files: the contents of secrets and ConfigMaps, by the object's name and the key.
    """

    engine: Engine
    network: str
    files: Mapping[str, Mapping[str, str]] = field(hash=False)

    def start(self, name: str, spec: Spec) -> str:
        """Mount the pod's volumes, run its init containers and start its container; returns the container's name."""
        assert set(spec) <= _KNOWN, set(spec) - _KNOWN
        volumes = {volume["name"]: self._mounted(name, volume, spec) for volume in spec["volumes"]}
        for container in spec.get("initContainers", []):
            self.engine.docker("run", "--rm", *self._options(container, spec, volumes))
        (container,) = spec["containers"]
        self.engine.docker("run", "--detach", "--name", name, *self._options(container, spec, volumes))
        return name

    def run(self, name: str, spec: Spec) -> str:
        """Run a job's pod to its end; returns its output.

        Raises:
            AssertionError: the container failed.
        """
        self.start(name, spec)
        code = self.engine.docker("wait", name).strip()
        output = self.engine.docker("logs", name)
        self.engine.docker("rm", "--volumes", name)
        assert code == "0", output
        return output

    def remove(self, name: str) -> None:
        """Remove a container and keep the pod's claims, as the end of a pod does."""
        self.engine.docker("rm", "--force", "--volumes", name, check=False)

    def clear(self) -> None:
        """Forget all volumes."""
        shutil.rmtree(_PODS, ignore_errors=True)

    def _mounted(self, pod: str, volume: Spec, spec: Spec) -> Path:
        """Lay out a volume; returns its path within the engine."""
        name: str = volume["name"]
        path = _PODS / pod / name
        group: int = spec["securityContext"]["fsGroup"]
        if "persistentVolumeClaim" in volume:
            path.mkdir(parents=True, exist_ok=True)
            _give_to_group(path, group)
        elif "emptyDir" in volume:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            path.chmod(0o777)
            _give_to_group(path, group)
        else:
            shutil.rmtree(path, ignore_errors=True)
            _publish(path, dict(self._contents(volume)), _mode(volume), group)
        return _INSIDE / pod / name

    def _contents(self, volume: Spec) -> Iterator[tuple[str, str]]:
        sources = volume.get("projected", {}).get("sources", [volume])
        for source in sources:
            ((kind, told),) = ((key, value) for key, value in source.items() if key != "name")
            assert kind in {"secret", "configMap"}, kind
            files = self.files[told.get("secretName") or told["name"]]
            items = told.get("items") or [{"key": key, "path": key} for key in files]
            yield from ((item["path"], files[item["key"]]) for item in items)

    def _options(self, container: Spec, spec: Spec, volumes: Mapping[str, Path]) -> Iterator[str]:
        context = spec["securityContext"] | container["securityContext"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["allowPrivilegeEscalation"] is False
        yield from ("--network", self.network, "--no-healthcheck", "--security-opt", "no-new-privileges")
        yield from ("--user", f"{context['runAsUser']}:{context['runAsGroup']}", "--group-add", str(context["fsGroup"]))
        yield from (f"--cap-drop={name}" for name in context["capabilities"]["drop"])
        yield from ("--read-only",) * context["readOnlyRootFilesystem"]
        limits = container["resources"]["limits"]
        memory = str(_bytes(limits["memory"]))
        yield from ("--cpus", limits["cpu"], "--memory", memory, "--memory-swap", memory)
        for variable in container.get("env", []):
            yield from ("--env", f"{variable['name']}={variable['value']}")
        for mount in container["volumeMounts"]:
            mode = ",readonly" if mount.get("readOnly") else ""
            yield from ("--mount", f"type=bind,source={volumes[mount['name']]},target={mount['mountPath']}{mode}")
        command = container.get("command", [])
        yield from ("--entrypoint", command[0]) if command else ()
        yield from (container["image"], *command[1:], *container.get("args", []))


def with_claims(document: Spec) -> Spec:
    """Return a StatefulSet's pod as its controller makes it: with a claim for each template."""
    spec: Spec = document["spec"]["template"]["spec"]
    claims = [each["metadata"]["name"] for each in document["spec"].get("volumeClaimTemplates", [])]
    made = [{"name": name, "persistentVolumeClaim": {"claimName": f"{name}-0"}} for name in claims]
    return spec | {"volumes": [*spec["volumes"], *made]}


def _give_to_group(path: Path, group: int) -> None:
    """Give everything in a volume to the pod's group, at each mount, as a kubelet does for most drivers."""
    for found in (path, *path.rglob("*")):
        if found.is_symlink():
            continue
        os.chown(found, -1, group)
        mode = found.stat().st_mode
        extra = stat.S_ISGID | stat.S_IXGRP if found.is_dir() else 0
        found.chmod(stat.S_IMODE(mode) | stat.S_IRGRP | stat.S_IWGRP | extra)


def _publish(path: Path, files: Mapping[str, str], mode: int, group: int) -> None:
    """Write the files of a secret or ConfigMap: links into a directory that is replaced as a whole."""
    data = path / "..2026_01_01_00_00_00.1"
    data.mkdir(parents=True)
    path.chmod(0o777)
    (path / "..data").symlink_to(data.name)
    for name, text in files.items():
        (data / name).write_text(text)
        (data / name).chmod(mode | stat.S_IRGRP)
        os.chown(data / name, 0, group)
        (path / name).symlink_to(f"..data/{name}")


def _mode(volume: Spec) -> int:
    ((_, told),) = ((key, value) for key, value in volume.items() if key != "name")
    return int(told.get("defaultMode", 0o644))


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]
