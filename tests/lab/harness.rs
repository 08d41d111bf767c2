//! Drives `holdfast lab` and looks at what it made, from outside.

#[path = "../failure.rs"]
mod failure;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::Value;
use tempfile::TempDir;

use failure::eventually_after;
pub(crate) use failure::{Outcome, ensure, failed};

/// How long a condition may take before the test gives up; generous on purpose.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How long a condition is left alone between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks again until the check answers `Ok` or patience ends; then reports the last answer.
pub(crate) fn eventually<T>(
    what: &str,
    patience: Duration,
    check: impl FnMut() -> Result<T, Failed>,
) -> Result<T, Failed> {
    eventually_after(PAUSE, what, patience, check)
}

pub(crate) fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_holdfast").into()
}

pub(crate) fn from_root(variable: &str, fallback: &str) -> PathBuf {
    std::env::var_os(variable)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(fallback), PathBuf::from)
}

pub(crate) fn bundle() -> PathBuf {
    from_root("HOLDFAST_BUNDLE", ".build/holdfast.hfb")
}

pub(crate) fn trusted_key() -> PathBuf {
    from_root("HOLDFAST_TRUST", ".build/signing.key.pub")
}

/// Runs a command and returns its output; the caller judges the exit code.
pub(crate) fn output(command: &mut Command) -> Result<Output, Failed> {
    command.output().map_err(|error| failed(format!("{command:?}"), error))
}

/// The output's text, both streams, for messages.
pub(crate) fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    format!("exit {:?}\n{out}{err}", output.status.code())
}

/// Runs a command that must succeed and returns its stdout.
pub(crate) fn succeed(command: &mut Command) -> Result<String, Failed> {
    let output = output(command)?;
    if !output.status.success() {
        return Err(format!("{command:?}\n{}", text(&output)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Fails unless the text has all of the words; names those that it lacks.
pub(crate) fn contains(what: &str, text: &str, wanted: &[&str]) -> Outcome {
    let missing: Vec<&&str> = wanted.iter().filter(|word| !text.contains(**word)).collect();
    ensure(missing.is_empty(), || format!("{what} lacks {missing:?}:\n{text}"))
}

/// Runs it to its end on this thread.
pub(crate) fn run<T>(future: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| failed("runtime", error))?.block_on(future)
}

/// What the page answers; the certificate is the cluster's own.
pub(crate) async fn get_page(
    url: &str,
    password: Option<&str>,
) -> Result<reqwest::Response, Failed> {
    let client = reqwest::Client::builder()
        .tls_certs_only([])
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .build()
        .map_err(|error| failed("client", error))?;
    let mut request = client.get(url);
    if let Some(password) = password {
        request = request.basic_auth("admin", Some(password));
    }
    request.send().await.map_err(|error| failed("GET /ui/", error))
}

/// One lab; taken down when dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    dir: TempDir,
}

impl Lab {
    /// Brings a lab up; `bare` hosts have no Holdfast on them yet.
    pub(crate) fn up(layout: &str, bare: bool) -> Result<Self, Failed> {
        let dir = tempfile::Builder::new()
            .prefix("hf-lab-")
            .tempdir()
            .map_err(|error| failed("temporary folder", error))?;
        let lab = Self { dir };
        let mut command = lab.command("up");
        command.args(["--layout", layout]).arg("--bundle").arg(bundle());
        command.arg("--trust").arg(trusted_key());
        if bare {
            command.arg("--bare");
        }
        succeed(&mut command)?;
        Ok(lab)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `holdfast lab VERB --dir D`.
    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(binary());
        command.args(["lab", verb, "--dir"]).arg(self.dir.path());
        command
    }

    pub(crate) fn fault(&self, what: &str, node: &str) -> Outcome {
        let mut command = Command::new(binary());
        command.args(["lab", "fault", what, node, "--dir"]).arg(self.dir.path());
        succeed(&mut command).map(|_| ())
    }

    /// Cuts the link between two centers; `lab heal` opens it.
    pub(crate) fn cut(&self, one: &str, other: &str) -> Outcome {
        let mut command = Command::new(binary());
        command.args(["lab", "fault", "cut", one, other, "--dir"]).arg(self.dir.path());
        succeed(&mut command).map(|_| ())
    }

    /// A command inside a host.
    pub(crate) fn on(&self, node: &str, arguments: &[&str]) -> Command {
        let mut command = self.command("exec");
        command.arg(node).arg("--").args(arguments);
        command
    }

    /// What `lab status` knows.
    pub(crate) fn facts(&self) -> Result<Value, Failed> {
        // Exit code 2 says that a host is down, which may be what the test has made.
        let answer = output(self.command("status").args(["-o", "json"]))?;
        serde_json::from_slice(&answer.stdout)
            .map_err(|error| failed(format!("lab status: {}", text(&answer)), error))
    }

    /// A host's PID 1 by the machine's numbers.
    pub(crate) fn pid(&self, node: &str) -> Result<i64, Failed> {
        let facts = self.facts()?;
        let hosts = facts["hosts"].as_array();
        let host = hosts.and_then(|hosts| hosts.iter().find(|host| host["name"] == node));
        let pid = host.and_then(|host| host["pid"].as_i64());
        pid.ok_or_else(|| format!("{node} has no PID 1: {facts}").into())
    }

    /// A host's disk, seen from the machine.
    pub(crate) fn root(&self, node: &str) -> PathBuf {
        self.dir.path().join("hosts").join(node).join("root")
    }

    /// A variable of `lab env`.
    pub(crate) fn env(&self, name: &str) -> Result<String, Failed> {
        let text = succeed(&mut self.command("env"))?;
        let prefix = format!("export {name}=");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .map(|value| value.trim_matches(['\'', '"']).to_owned())
            .ok_or_else(|| format!("lab env prints no {name}:\n{text}").into())
    }

    pub(crate) fn kubeconfig(&self) -> Result<PathBuf, Failed> {
        self.env("KUBECONFIG").map(PathBuf::from)
    }

    /// `holdfast VERB …` against the lab, from outside its hosts.
    pub(crate) fn holdfast(&self, arguments: &[&str]) -> Result<Command, Failed> {
        let mut command = Command::new(binary());
        command.args(arguments).env("KUBECONFIG", self.kubeconfig()?);
        Ok(command)
    }

    /// Same with `kubectl`.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<Command, Failed> {
        let mut command = Command::new("kubectl");
        command.args(arguments).env("KUBECONFIG", self.kubeconfig()?);
        Ok(command)
    }

    /// `holdfast status -o json` as one node sees it; any exit code with a document is fine.
    pub(crate) fn status(&self, node: &str) -> Result<Value, Failed> {
        let output = output(&mut self.on(node, &["holdfast", "status", "-o", "json"]))?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| failed(format!("status on {node}: {}", text(&output)), error))
    }

    /// The name of the store's leader as `node` sees it.
    pub(crate) fn leader(&self, node: &str) -> Result<String, Failed> {
        let status = self.status(node)?;
        let members = status["members"].as_array().cloned().unwrap_or_default();
        members
            .iter()
            .find(|member| member["leader"] == true)
            .and_then(|member| member["name"].as_str().map(str::to_owned))
            .ok_or_else(|| format!("{node} knows no leader: {status}").into())
    }

    /// All objects of a kind, as JSON, by the binary's own client.
    pub(crate) fn objects(&self, kind: &str) -> Result<Vec<Value>, Failed> {
        let text = succeed(&mut self.holdfast(&["get", kind, "-A", "-o", "json"])?)?;
        let list: Value =
            serde_json::from_str(&text).map_err(|error| failed(format!("get {kind}"), error))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until that many pods with the label are Ready on nodes that the filter accepts.
    pub(crate) fn pods_ready(
        &self,
        app: &str,
        count: usize,
        on: impl Fn(&str) -> bool,
    ) -> Result<Vec<Value>, Failed> {
        let what = format!("{count} Ready pods of {app}");
        eventually(&what, PATIENCE, || {
            let pods = self.objects("pods")?;
            let ready: Vec<Value> = pods
                .iter()
                .filter(|pod| pod["metadata"]["labels"]["app"] == app && is_ready(pod))
                .filter(|pod| on(pod["spec"]["nodeName"].as_str().unwrap_or_default()))
                .cloned()
                .collect();
            ensure(ready.len() == count, || format!("{} are: {}", ready.len(), brief(&pods)))?;
            Ok(ready)
        })
    }

    /// Makes one write and answers the store's revision after it.
    pub(crate) fn fresh_write(&self) -> Result<i64, Failed> {
        let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let stamp = stamp.map_err(|error| failed("clock", error))?.as_nanos();
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: harness, namespace: default}}\n\
             data: {{stamp: \"{stamp}\"}}\n"
        );
        let manifest = tempfile::NamedTempFile::with_suffix(".yaml")
            .map_err(|error| failed("manifest", error))?;
        std::fs::write(manifest.path(), text).map_err(|error| failed("manifest", error))?;
        let path = manifest.path().to_string_lossy().into_owned();
        succeed(&mut self.holdfast(&["apply", "-f", &path])?)?;
        let get = ["get", "configmap", "harness", "-n", "default", "-o", "json"];
        let text = succeed(&mut self.holdfast(&get)?)?;
        let object: Value =
            serde_json::from_str(&text).map_err(|error| failed("configmap harness", error))?;
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        version.parse().map_err(|error| failed("resourceVersion", error))
    }

    /// Fails unless the node's own replica serves everything up to `revision`.
    pub(crate) fn serves(&self, node: &str, revision: i64) -> Outcome {
        let status = self.status(node)?;
        ensure(status["answeredBy"] == node, || format!("{node} was not asked: {status}"))?;
        let own = status["store"]["revision"].as_i64().unwrap_or_default();
        ensure(own >= revision, || format!("{node} is at {own}, not yet at {revision}"))
    }

    /// Waits until every node is Ready and every member has caught up: each one's own
    /// replica serves a write that was made just now, the leader sees no lag, and no
    /// member is a problem.
    pub(crate) fn settled(&self, nodes: usize) -> Outcome {
        let names = &["a1", "b1", "c1"][..nodes];
        let fresh = eventually("a fresh write", PATIENCE, || self.fresh_write())?;
        eventually("all nodes Ready and all members caught up", PATIENCE, || {
            names.iter().try_for_each(|node| self.serves(node, fresh))?;
            let leader = self.leader(names[0])?;
            let status = self.status(&leader)?;
            let empty = Vec::new();
            let list = |field: &str| status[field].as_array().unwrap_or(&empty).clone();
            let ready = list("nodes").iter().filter(|node| node["ready"] == true).count();
            let members = list("members");
            let level = members.iter().filter(|member| {
                member["voter"] == true
                    && member["answers"] == true
                    && (member["leader"] == true || member["lagEntries"] == 0)
            });
            let level = level.count();
            let troubled = list("problems")
                .iter()
                .any(|problem| problem.as_str().is_some_and(|text| text.starts_with("Member ")));
            ensure(ready == nodes && level == nodes && !troubled, || status.to_string())
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.dir.path().exists() {
            let _best_effort = self.command("down").output();
        }
    }
}

/// Whether a pod's Ready condition is True.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|list| {
        list.iter().any(|item| item["type"] == "Ready" && item["status"] == "True")
    })
}

/// Names, nodes and phases, for messages.
pub(crate) fn brief(pods: &[Value]) -> String {
    let line = |pod: &Value| {
        format!(
            "{} on {} {}",
            pod["metadata"]["name"], pod["spec"]["nodeName"], pod["status"]["phase"]
        )
    };
    pods.iter().map(line).collect::<Vec<_>>().join("; ")
}

pub(crate) fn has_kubectl() -> bool {
    Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|o| o.status.success())
}
