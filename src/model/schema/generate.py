#!/usr/bin/env python3
"""Writes types.txt and docs.txt: every served type of Kubernetes, its fields and their words.

All comes from the crate k8s-openapi (Apache-2.0, generated from Kubernetes' own OpenAPI
document): types and words from its JSON schemas, list types and merge keys from its merge
functions. What those do not say stands in the tables below, with the field's own name in
Kubernetes' types.go. Run it again for a newer Kubernetes:

    generate.py K8S_OPENAPI_DIR
"""
import json
import pathlib
import re
import sys

PACKAGES = """api/core/v1 api/apps/v1 api/batch/v1 api/networking/v1 api/rbac/v1 api/policy/v1
api/autoscaling/v1 api/autoscaling/v2 api/storage/v1 api/coordination/v1 api/discovery/v1
api/scheduling/v1 api/node/v1 api/events/v1 api/authentication/v1 api/authorization/v1
apimachinery/pkg/apis/meta/v1 apimachinery/pkg/api/resource apimachinery/pkg/util/intstr
apimachinery/pkg/runtime api/scheduling/v1alpha3 apiextensions_apiserver/pkg/apis/apiextensions/v1""".split()

# +structType=atomic: applied as one value.
ATOMIC = set("""
core.v1.LocalObjectReference core.v1.ObjectReference core.v1.TypedLocalObjectReference
core.v1.SecretReference core.v1.ConfigMapKeySelector core.v1.SecretKeySelector
core.v1.ObjectFieldSelector core.v1.ResourceFieldSelector core.v1.FileKeySelector
core.v1.NodeSelector core.v1.NodeSelectorTerm core.v1.ScopeSelector
core.v1.ScopedResourceSelectorRequirement core.v1.TopologySelectorTerm core.v1.EndpointAddress
core.v1.EndpointPort discovery.v1.EndpointPort meta.v1.LabelSelector meta.v1.OwnerReference
rbac.v1.RoleRef rbac.v1.Subject autoscaling.v1.CrossVersionObjectReference
networking.v1.ServiceBackendPort
""".split())
# +listMapKey where it is more than the patch merge key, or where the merge function says
# something else: (type, field) -> keys; an empty list is +listType=atomic.
LIST_KEYS = {
    ("core.v1.Container", "ports"): ["containerPort", "protocol"],
    ("core.v1.EphemeralContainer", "ports"): ["containerPort", "protocol"],
    ("core.v1.ServiceSpec", "ports"): ["port", "protocol"],
    ("core.v1.PodSpec", "topologySpreadConstraints"): ["topologyKey", "whenUnsatisfiable"],
    ("core.v1.PodStatus", "hostIPs"): [],
    ("batch.v1.JobStatus", "conditions"): [],
    ("apps.v1.StatefulSetSpec", "volumeClaimTemplates"): [],
}
# Lists with a +listType and no patchStrategy: a strategic merge patch replaces them.
NO_PATCH = {
    ("core.v1.ResourceRequirements", "claims"), ("core.v1.ResourceStatus", "resources"),
    ("discovery.v1.Endpoint", "addresses"), ("storage.v1.CSIDriverSpec", "volumeLifecycleModes"),
    ("batch.v1.PodFailurePolicyOnExitCodesRequirement", "values"),
    ("batch.v1.UncountedTerminatedPods", "failed"),
    ("batch.v1.UncountedTerminatedPods", "succeeded"),
    ("core.v1.ContainerRestartRuleOnExitCodes", "values"),
    ("apps.v1.StatefulSetSpec", "volumeClaimTemplates"),
}
PATCH = {
    ("core.v1.PodSpec", "volumes"): "retainKeys",
    ("core.v1.PodSpec", "resourceClaims"): "retainKeys",
    ("core.v1.PodStatus", "resourceClaimStatuses"): "retainKeys",
    ("apps.v1.DeploymentSpec", "strategy"): "retainKeys",
    ("policy.v1.PodDisruptionBudgetSpec", "selector"): "replace",
}
# +default on keys of lists, needed to tell elements apart.
DEFAULTS = {("core.v1.ContainerPort", "protocol"): "TCP", ("core.v1.ServicePort", "protocol"): "TCP"}

SCALARS = {"Quantity": "quantity", "JSON": "any"}


def unquote(text):
    return json.loads(re.sub(r"\\u\{(\w+)\}", lambda m: chr(int(m[1], 16)), text))


def full_name(path):
    parts = path.replace("::", "/").split("/")
    return "io.k8s." + ".".join(parts).replace("apiextensions_apiserver", "apiextensions-apiserver")


class Reader:
    """The JSON schema inside json_schema!({ … }), as Python values; references as '@name'."""

    def __init__(self, text):
        self.text, self.at = text, 0

    def skip(self):
        self.at = re.compile(r"\s*").match(self.text, self.at).end()

    def value(self):
        self.skip()
        text = self.text[self.at:]
        if text.startswith("{"):
            self.at += 1
            fields = {}
            while True:
                self.skip()
                if self.text[self.at] == "}":
                    self.at += 1
                    return fields
                key = self.string()
                self.skip()
                assert self.text[self.at] == ":", self.text[self.at:self.at + 80]
                self.at += 1
                fields[key] = self.value()
                self.skip()
                if self.text[self.at] == ",":
                    self.at += 1
        if text.startswith("["):
            self.at += 1
            items = []
            while True:
                self.skip()
                if self.text[self.at] == "]":
                    self.at += 1
                    return items
                items.append(self.value())
                self.skip()
                if self.text[self.at] == ",":
                    self.at += 1
        if text.startswith('"'):
            return self.string()
        if text.startswith("("):
            return self.reference()
        bare = re.match(r"__gen\.subschema_for::<crate::([\w:]+)>\(\)", text)
        if bare:
            self.at += bare.end()
            return {"ref": bare[1]}
        word = re.match(r"[\w.\-]+", text)[0]
        self.at += len(word)
        return json.loads(word)

    def string(self):
        match = re.compile(r'"(?:[^"\\]|\\.)*"').match(self.text, self.at)
        self.at = match.end()
        return unquote(match[0])

    def reference(self):
        target = re.compile(r"subschema_for::<crate::([\w:]+)>").search(self.text, self.at)
        simple = re.compile(r"\(__gen\.subschema_for::<crate::[\w:]+>\(\)\)").match(self.text, self.at)
        found = {"ref": target[1]}
        if simple:
            self.at = simple.end()
            return found
        end = self.text.index("schema_obj\n", self.at)
        block = self.text[self.at:end]
        said = re.search(r'insert\("description"\.into\(\), ("(?:[^"\\]|\\.)*")', block)
        if said:
            found["description"] = unquote(said[1])
        self.at = self.text.index("})", end) + 2
        return found


def code_of(schema):
    if "ref" in schema:
        return "@" + full_name(schema["ref"])
    kind = schema.get("type")
    if kind == "array":
        return "[]" + code_of(schema["items"])
    if kind == "object" and "additionalProperties" in schema:
        inner = schema["additionalProperties"]
        return "{}" + ("any" if inner is True else code_of(inner))
    if schema.get("x-kubernetes-int-or-string"):
        return "int-or-string"
    if kind is None:
        return "any"
    return kind + ("/" + schema["format"] if "format" in schema else "")


def json_names(text):
    names = re.findall(r'"([\w$\-]+)" => Field::Key_(\w+)', text)
    return {snake: name for name, snake in names}


def merges(text, names, all_names):
    found = {}
    pattern = r"list::(map|set)\(\s*&mut self\.(\w+),\s*other\.\w+(?:,\s*&\[(.*?)\],)?"
    for match in re.finditer(pattern, text, re.S):
        keys = [all_names.get(key, key) for key in re.findall(r"lhs\.(\w+)", match[3] or "")]
        found[names[match[2]]] = keys if match[1] == "map" else ["set"]
    for match in re.finditer(r"map::atomic\(&mut self\.(\w+)", text):
        found[names[match[1]]] = ["atomic"]
    return found


def main():
    root = sorted((pathlib.Path(sys.argv[1]) / "src").glob("v1_*"))[-1]
    files = [file for package in PACKAGES for file in sorted((root / package).glob("*.rs"))]
    texts = {file: file.read_text() for file in files}
    all_names = {}
    for text in texts.values():
        all_names.update(json_names(text))
    all_names["type_"] = "type"
    types, docs, named, referred = [], [], set(), set()
    for file, text in texts.items():
        # A kind's own schema follows its list of JSON names; some files define none.
        at = text.find("json_schema!(")
        name = re.search(r'fn schema_name.*?"(io\.[^"]+)"\.into', text, re.S)
        if at < 0 or not name:
            continue
        name = name[1]
        schema = Reader(text[at + len("json_schema!("):]).value()
        short = ".".join(name.split(".")[-3:])
        head = [name]
        constants = dict(re.findall(r"const (\w+): &'static str = \"([^\"]*)\"", text))
        if "KIND" in constants and "API_VERSION" in constants:
            head.append("kind=" + constants["API_VERSION"] + "/" + constants["KIND"])
        if short in ATOMIC:
            head.append("atomic")
        if "properties" not in schema:
            head.append("=" + (SCALARS.get(short.rsplit(".", 1)[-1]) or code_of(schema)))
        types.append(" ".join(head))
        named.add(name)
        docs.append(json.dumps(schema.get("description", ""), ensure_ascii=False) + " " + name)
        rules = merges(text, json_names(text), all_names)
        required = schema.get("required", [])
        for field, inner in schema.get("properties", {}).items():
            code = code_of(inner)
            referred.update(re.findall(r"@([\w.\-]+)", code))
            words, key = [], (short, field)
            patch = rules.get(field)
            lists = LIST_KEYS.get(key, patch)
            if patch == ["atomic"]:
                code, patch = code.replace("{}", "{atomic}", 1), None
            elif lists:
                code = code.replace("[]", "[" + ",".join(lists) + "]", 1)
            if patch and key not in NO_PATCH:
                words.append("merge" if patch == ["set"] else "merge=" + patch[0])
            if key in PATCH:
                words.append(PATCH[key])
            if key in DEFAULTS:
                words.append("default=" + DEFAULTS[key])
            mark = "!" if field in required else ""
            types.append(" ".join([" " + field + mark, code, *words]))
            docs.append(" " + json.dumps(inner.get("description", ""), ensure_ascii=False) + " " + field)
    missing = sorted(referred - named)
    if missing:
        sys.exit(f"types that a field names and nothing describes: {missing}")
    here = pathlib.Path(__file__).parent
    # metrics.k8s.io is no part of Kubernetes' own document.
    more = lambda name: (here / ("metrics_" + name)).read_text()
    (here / "types.txt").write_text("\n".join(types) + "\n" + more("types.txt"))
    (here / "docs.txt").write_text("\n".join(docs) + "\n" + more("docs.txt"))


if __name__ == "__main__":
    main()
