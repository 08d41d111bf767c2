#!/usr/bin/env python3
"""Writes schema.txt: field numbers of Kubernetes' protobuf messages with their JSON names.

Field numbers come from the crate k8s-pb, JSON names from the crate k8s-openapi (both
Apache-2.0, generated from Kubernetes itself). Run it again for a newer Kubernetes:

    generate.py K8S_PB_DIR K8S_OPENAPI_DIR > schema.txt
"""
import pathlib
import re
import sys

# Optional in Go by pointer: there a zero is said, elsewhere it only means unset.
POINTERS = set("""
activeDeadlineSeconds allocateLoadBalancerNodePorts allowPrivilegeEscalation
automountServiceAccountToken backoffLimit blockOwnerDeletion completions controller
defaultMode deletionGracePeriodSeconds enableServiceLinks fsGroup gracePeriodSeconds
hostUsers immutable maxSurge maxUnavailable minAvailable minReplicas mode optional
orphanDependents parallelism partition port priority privileged progressDeadlineSeconds
readOnlyRootFilesystem ready replicas revisionHistoryLimit runAsGroup runAsNonRoot runAsUser
serving setHostnameAsFQDN shareProcessNamespace storageClassName suspend terminating
terminationGracePeriodSeconds tolerationSeconds ttlSecondsAfterFinished
""".split())
# `port` is a number said or not in endpoint slices, and always said elsewhere.
NOT_POINTERS = {("core.v1.HTTPGetAction", "port"), ("core.v1.TCPSocketAction", "port")}
SCALARS = {"string": "s", "bool": "b", "int32": "i", "int64": "i", "uint32": "i",
           "uint64": "i", "double": "d"}
SPECIAL = {"Quantity": "q", "IntOrString": "x", "Time": "t", "MicroTime": "t",
           "RawExtension": "j", "FieldsV1": "j", "ExtraValue": "l"}
# Embedded in Go: their fields are the outer object's in JSON.
EMBEDDED = {"VolumeSource", "ProbeHandler", "LocalObjectReference", "EphemeralContainerCommon",
            "PersistentVolumeSource", "IngressRuleValue"}
PACKAGES = """api/core/v1 api/apps/v1 api/batch/v1 api/networking/v1 api/rbac/v1 api/policy/v1
api/autoscaling/v1 api/autoscaling/v2 api/storage/v1 api/coordination/v1 api/discovery/v1
api/scheduling/v1 api/node/v1 api/events/v1 api/authentication/v1 api/authorization/v1
apimachinery/pkg/apis/meta/v1""".split()


def squash(name):
    return name.replace("_", "").replace("#", "").lower()


def json_names(openapi):
    """Type name -> squashed field name -> JSON name."""
    found = {}
    newest = sorted(openapi.glob("src/v1_*"))[-1]
    for file in newest.rglob("*.rs"):
        text = file.read_text()
        match = re.search(r"^pub struct (\w+)", text, re.M)
        if not match:
            continue
        package = ".".join(file.relative_to(newest).parts[-3:-1])
        names = re.findall(r'"([\w$]+)" => Field::Key_', text)
        found[f"{package}.{match[1]}".lower()] = (match[1], {squash(n): n for n in names})
    return found


def type_of(rust, package):
    inner = re.sub(r"::core::option::Option<(.*)>$", r"\1", rust)
    inner = re.sub(
        r"::prost::alloc::(?:vec::Vec|boxed::Box)<\s*(.*?),?\s*>$", r"\1", inner, flags=re.S)
    inner = re.sub(r"::prost::alloc::collections::BTreeMap<.*?,\s*(.*?),?\s*>$", r"\1", inner, flags=re.S)
    inner = re.sub(r"::prost::alloc::boxed::Box<(.*)>$", r"\1", inner)
    parts = inner.strip().split("::")
    if parts[-1] in SPECIAL:
        return SPECIAL[parts[-1]]
    if len(parts) == 1:
        return f"@{package}.{parts[0]}"
    return "@" + ".".join(parts[-3:])


def main():
    pb, openapi = map(pathlib.Path, sys.argv[1:])
    names = json_names(openapi)
    out = []
    everywhere = {}
    for _, fields in names.values():
        for squashed, name in fields.items():
            everywhere.setdefault(squashed, name)
    for path in PACKAGES:
        package = ".".join(path.split("/")[-2:])
        text = (pb / "src" / path / "mod.rs").read_text()
        for body in re.finditer(r"^pub struct (\w+) \{\n(.*?)^\}", text, re.M | re.S):
            struct = body[1]
            original, known = names.get(f"{package}.{struct}".lower(), (None, None))
            lines = []
            pattern = r'#\[prost\(([^\]]*?), tag = "(\d+)"\)\]\s*(?:#\[[^\]]*\]\s*)*pub (?:r#)?(\w+):\s+([^;]*?),\n(?=\s*(?:///|#\[|\}|pub|$))'
            for field in re.finditer(pattern, body[2] + "\n", re.S):
                spec, tag, rust_name, rust = field[1], field[2], field[3], field[4]
                squashed = squash(rust_name)
                kind = spec.split(",")[0].split("=")[0].strip()
                if kind == "btree_map":
                    value = re.search(r'"string, (\w+)"', spec)[1]
                    code = "%" + (type_of(rust, package) if value == "message" else
                                  "y" if value == "bytes" else SCALARS[value])
                elif kind == "message":
                    code = ("*" if "repeated" in spec else "") + type_of(rust, package)
                else:
                    code = ("*" if "repeated" in spec else "") + (
                        "y" if kind == "bytes" else SCALARS[kind])
                if known is not None and squashed not in known and code.startswith("@"):
                    if code.split(".")[-1] not in EMBEDDED:
                        continue  # Not in this version of the API.
                    name = "-"
                else:
                    name = (known or {}).get(squashed) or everywhere.get(squashed)
                    name = name or re.sub(r"_(\w)", lambda m: m[1].upper(), rust_name)
                said = name in POINTERS and (f"{package}.{original or struct}", name) not in NOT_POINTERS
                lines.append(f"{tag} {name} {code}{'?' if said else ''}")
            out.append(f"{package}.{struct}")
            out.extend(" " + line for line in lines)
    print("\n".join(out))


main()
