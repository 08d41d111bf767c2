//! Kinds that are made while the cluster runs, with an unmodified kubectl on every master.

use std::fs;

use crate::harness::{
    Lab, Outcome, PATIENCE, contains, ensure, eventually, failed, has_kubectl, output, succeed,
    text,
};
use crate::scenarios::{NODES, admission};

/// Of the shape that operators ship.
const DATABASES: &str = include_str!("../../../src/model/kinds/custom/databases.yaml");
const DEFINITION: &str = "crd/databases.stable.example.com";

/// A client on a host, whose master is its own.
fn kubectl(arguments: &[&str]) -> Vec<String> {
    let command = ["/opt/kubectl", "--kubeconfig", "/etc/holdfast/admin.kubeconfig"];
    command.iter().chain(arguments).map(|word| (*word).to_owned()).collect()
}

fn on(lab: &Lab, node: &str, arguments: &[&str]) -> Result<String, libtest_mimic::Failed> {
    let words = kubectl(arguments);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    succeed(&mut lab.on(node, &words))
}

fn apply(lab: &Lab, node: &str, name: &str, manifest: &str) -> Outcome {
    let path = format!("/root/{name}.yaml");
    let place = lab.root(node).join(path.trim_start_matches('/'));
    fs::write(&place, manifest).map_err(|error| failed(place.display(), error))?;
    on(lab, node, &["apply", "-f", &path]).map(|_| ())
}

fn database(name: &str) -> String {
    format!(
        "apiVersion: stable.example.com/v1\nkind: Database\nmetadata: {{name: {name}}}\n\
         spec: {{engine: postgres, users: [{{name: app}}]}}\n"
    )
}

/// A definition serves everywhere at once, outlives a leader, and takes its objects along.
pub(crate) fn definitions_live(lab: &Lab) -> Outcome {
    if !has_kubectl() {
        println!("SKIPPED t56: no kubectl on the PATH");
        return Ok(());
    }
    NODES.iter().try_for_each(|node| admission::hand_over_client(lab, node))?;
    apply(lab, "a1", "definition", DATABASES)?;
    on(lab, "a1", &["wait", "--for=condition=Established", DEFINITION, "--timeout=60s"])?;
    // At once, through the masters that were not asked yet.
    apply(lab, "b1", "first", &database("first"))?;
    apply(lab, "c1", "second", &database("second"))?;
    on(lab, "c1", &["scale", "databases/first", "--replicas=3"])?;
    let status = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
    on(lab, "b1", &["patch", "db", "first", "--subresource=status", "--type=merge", "-p", status])?;
    let shown = on(lab, "a1", &["get", "databases"])?;
    let row = shown.lines().find(|line| line.starts_with("first")).unwrap_or_default();
    contains("get", row, &["first", "postgres", "3", "True"])?;
    contains("get", &shown, &["ENGINE", "REPLICAS", "READY", "second"])?;
    let words = on(lab, "c1", &["explain", "databases.spec.engine"])?;
    contains("explain", &words, &["KIND:       Database", "The engine that runs."])?;
    let wrong =
        kubectl(&["patch", "db", "second", "--type=merge", "-p", r#"{"spec":{"replicas":9}}"#]);
    let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
    let refused = output(&mut lab.on("b1", &wrong))?;
    let words = ["spec.replicas in body should be less than or equal to 7"];
    contains("a refusal", &text(&refused), &words)?;

    let leader = lab.leader("a1")?;
    lab.fault("kill", &leader)?;
    let survivor = NODES.into_iter().find(|node| *node != leader).unwrap_or("a1");
    eventually("a survivor takes a third", PATIENCE, || {
        apply(lab, survivor, "third", &database("third"))
    })?;
    let shown = on(lab, survivor, &["get", "db", "-o", "name"])?;
    ensure(shown.lines().count() == 3, || shown.clone())?;
    on(lab, survivor, &["delete", DEFINITION, "--timeout=90s"])?;
    let gone = kubectl(&["get", "--raw", "/apis/stable.example.com/v1/databases"]);
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    let said = text(&output(&mut lab.on(survivor, &gone))?);
    contains("what is gone", &said, &["could not find the requested resource"])?;
    // Nothing of it came back with a definition of the same name.
    apply(lab, survivor, "definition", DATABASES)?;
    on(lab, survivor, &["wait", "--for=condition=Established", DEFINITION, "--timeout=60s"])?;
    let shown = on(lab, survivor, &["get", "databases", "-o", "name"])?;
    ensure(shown.trim().is_empty(), || shown.clone())?;
    on(lab, survivor, &["delete", DEFINITION, "--timeout=90s"])?;
    lab.fault("start", &leader)?;
    lab.settled(3)?;
    for node in NODES {
        let place = lab.root(node).join("opt/kubectl");
        fs::remove_file(&place).map_err(|error| failed(place.display(), error))?;
    }
    Ok(())
}
