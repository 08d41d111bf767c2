//! An ordinary Debian host with systemd becomes a cluster of one, loses its power, loses
//! its service, and is given back as it was.
//!
//! Not here: hosts beside a Docker of their own, several nodes, bad input (`tests/lab`).

use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::failure::{Outcome, ensure, failed};
use crate::guest::Guest;
use crate::host_state::HostState;
use crate::machine::Machine;
use crate::medium;
use crate::root::Root;
use crate::running::eventually;
use crate::steps::step;

const CLUSTER: &str = include_str!("cluster.yaml");
const SAMPLE: &str = include_str!("../../bundle/samples/hello.yaml");
/// What the host's own administrator had set up before anybody heard of Holdfast.
const HOST: &str = "\
echo a1 > /etc/hostname && hostname a1
printf '[Match]\\nName=en*\\n[Network]\\nAddress=10.77.0.11/24\\nLinkLocalAddressing=no\\n' \
  > /etc/systemd/network/10-lan.network
networkctl reload
echo 'LABEL=hf-medium /mnt ext2 ro,nofail 0 0' >> /etc/fstab
systemctl daemon-reload
mount /mnt
systemctl --quiet is-active multi-user.target";
const HOLDFAST: &str = "KUBECONFIG=/etc/holdfast/admin.kubeconfig /opt/holdfast/bin/holdfast";
/// Containers' main processes of the sample, with the times they began: a container that
/// was restarted is another process.
const SAMPLE_PROCESSES: &str = "for p in /proc/[0-9]*; do case $(readlink $p/exe) in \
  */hf-hello|*/hf-pause|/hello|/pause) echo ${p#/proc/} $(cut -d' ' -f22 $p/stat);; esac; done";

const SHORT: Duration = Duration::from_secs(180);
const LONG: Duration = Duration::from_secs(300);

/// The scenario.
pub(crate) fn run() -> Outcome {
    let build = crate::build();
    let root = step("a Debian root", || Root::ready(&build))?;
    let dir = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let medium = dir.path().join("medium");
    let sample = SAMPLE.replace("replicas: 3", "replicas: 1");
    medium::make(&medium, &[("cluster.yaml", CLUSTER), ("hello.yaml", &sample)])?;
    let mut machine = Machine::new("existing-host", &build, &root, &medium)?;
    let guest = step("power-on to shell", || machine.power_on())?;
    let outcome = scenario(&mut machine, &guest);
    if outcome.is_err() {
        // The console log already holds the journal; this is what it does not say.
        let _best_effort = step("what is left", || explain(&guest));
    }
    outcome
}

fn scenario(machine: &mut Machine, guest: &Guest) -> Outcome {
    step("the host's own settings", || {
        eventually("the host is set up", SHORT, || guest.succeed(HOST, SHORT))
    })?;
    let before = step("a look at the host", || HostState::of(guest))?;
    step("preflight", || preflight(guest))?;
    step("init", || {
        let command = "/mnt/holdfast init --node a1 --config /mnt/cluster.yaml \
                       --bundle /mnt/bundle.hfb --trust /mnt/bundle.pub";
        guest.succeed(command, LONG)
    })?;
    step("the node is Ready", || ready(guest))?;
    step("the look sees what init did", || {
        let seen = ["holdfast.service", "sysctl", "/etc/modules-load.d/holdfast.conf"];
        before.ensure_changed(guest, &seen)
    })?;
    step("the sample answers", || {
        guest.succeed(&format!("{HOLDFAST} apply -f /mnt/hello.yaml"), SHORT)?;
        answers(guest)
    })?;
    step("containers are confined", || confined(guest))?;
    step("an acknowledged write, then no power", || {
        write(guest, "kept")?;
        machine.cut_power()
    })?;
    let guest = &step("power-on to shell", || machine.power_on())?;
    step("the node is Ready by itself", || ready(guest))?;
    step("the write is there", || guest.succeed(&format!("{HOLDFAST} get configmap kept"), SHORT))?;
    step("the sample answers by itself", || answers(guest))?;
    services(guest)?;
    step("reset", || guest.succeed("/mnt/holdfast reset --yes --force", LONG))?;
    step("the host is as it was", || before.ensure_still(guest, "reset"))
}

/// What systemd does with our units, and that no container notices.
fn services(guest: &Guest) -> Outcome {
    let containers = guest.succeed(SAMPLE_PROCESSES, SHORT)?;
    ensure(containers.lines().count() == 2, || format!("not a pod's processes: {containers}"))?;
    let same = |after: &str| {
        let now = guest.succeed(SAMPLE_PROCESSES, SHORT)?;
        ensure(now == containers, || format!("{after} changed\n{containers}to\n{now}"))
    };
    step("a restarted service restarts no container", || {
        guest.succeed("systemctl restart holdfast", SHORT)?;
        ready(guest)?;
        same("restart of holdfast")
    })?;
    step("a killed service is started again", || {
        let pid = "systemctl show -P MainPID holdfast";
        let old = guest.succeed(pid, SHORT)?;
        guest.succeed(&format!("kill -9 {old}"), SHORT)?;
        eventually("another process of holdfast", SHORT, || {
            let new = guest.succeed(pid, SHORT)?;
            ensure(new != old && new.trim() != "0", || format!("still {new}"))
        })?;
        ready(guest)?;
        same("kill -9 of holdfast")
    })?;
    step("a restarted engine restarts no container", || {
        guest.succeed("systemctl restart holdfast-engine", LONG)?;
        answers(guest)?;
        same("restart of the engine")
    })
}

/// By the host's AppArmor, and in memory by a control group of version 2.
fn confined(guest: &Guest) -> Outcome {
    let look = format!(
        "({SAMPLE_PROCESSES}) | while read pid _; do cat /proc/$pid/attr/current \
         /sys/fs/cgroup$(cut -d: -f3 /proc/$pid/cgroup)/memory.max; done"
    );
    let found = guest.succeed(&look, SHORT)?;
    let profiles = found.matches("docker-default (enforce)").count();
    let limit = found.lines().any(|line| line == "67108864");
    ensure(profiles == 2 && limit, || format!("profiles and memory limits:\n{found}"))
}

/// What is true of this machine and no fault of the host.
const EXPECTED: [&str; 3] = ["processors", "clock-unsynchronized", "sync-time"];

fn preflight(guest: &Guest) -> Outcome {
    let command = "/mnt/holdfast preflight --node a1 --address 10.77.0.11 --all -o json";
    let found = json(&guest.succeed(command, SHORT)?)?;
    let none = Vec::new();
    let all = found.as_array().unwrap_or(&none);
    let is = |one: &Value, severity: &str| one["severity"] == severity;
    let bad = all
        .iter()
        .filter(|one| is(one, "error") || is(one, "warning"))
        .find(|one| !EXPECTED.contains(&one["code"].as_str().unwrap_or_default()));
    ensure(bad.is_none() && all.len() >= 80, || format!("preflight found {found}"))
}

fn json(text: &str) -> Result<Value, Failed> {
    serde_json::from_str(text).map_err(|error| failed(text, error))
}

fn ready(guest: &Guest) -> Outcome {
    eventually("status without problems", LONG, || {
        let finished = guest.run(&format!("{HOLDFAST} status -o json"), SHORT)?;
        let status = json(&finished.stdout)?;
        let ready = status["nodes"][0]["ready"] == true && finished.code == 0;
        ensure(ready, || format!("{finished}"))
    })
}

/// Asks the sample at its Service's address, from the host.
fn answers(guest: &Guest) -> Outcome {
    let service = guest.succeed(&format!("{HOLDFAST} get service hello -o json"), SHORT)?;
    let service = json(&service)?;
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let ask = format!(
        "exec 3<>/dev/tcp/{address}/80 && printf 'GET / HTTP/1.0\\r\\nHost: hello\\r\\n\\r\\n' >&3 \
         && timeout 10 cat <&3"
    );
    eventually("an answer of the sample", LONG, || {
        let answer = guest.succeed(&ask, SHORT)?;
        ensure(answer.contains("200 OK") && answer.contains("a1"), || answer.clone())
    })
}

/// Returns when the API has acknowledged it.
fn write(guest: &Guest, name: &str) -> Outcome {
    let manifest = format!(
        "apiVersion: v1\\nkind: ConfigMap\\nmetadata: {{name: {name}, namespace: default}}\\n\
         data: {{text: {name}}}\\n"
    );
    let command =
        format!("printf '{manifest}' > /tmp/{name}.yaml && {HOLDFAST} apply -f /tmp/{name}.yaml");
    guest.succeed(&command, SHORT).map(drop)
}

fn explain(guest: &Guest) -> Outcome {
    let look = "systemctl --no-pager --failed; systemctl --no-pager status 'holdfast*'; \
                tail -n 40 /var/lib/holdfast/log/* 2>/dev/null; journalctl -b -n 100 --no-pager";
    println!("{}", guest.run(look, SHORT)?);
    Ok(())
}
