//! The admin page in a real browser: `tests/web/admin_page.mjs` uses it and judges, this
//! prepares what it looks at, and keeps the screenshots in `.build/ui-screenshots`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Lab, Outcome, binary, ensure, failed, succeed};
use crate::scenarios::masters::deploy_sample;
use crate::scenarios::streams;

/// Something whose value must not be seen unasked.
const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: page-test, namespace: \
                      default}\nstringData: {word: opensesame}\n";
const SHELL_POD: &str = "box-a1";

/// The page of one node, not of whichever answers: a session is of its node.
fn page_of(lab: &Lab, node: &str) -> Result<String, libtest_mimic::Failed> {
    let facts = lab.facts()?;
    let port = facts["forwards"]["hosts"][node]["api"].as_u64().ok_or("no port of the API")?;
    Ok(format!("https://127.0.0.1:{port}/ui/"))
}

pub(crate) fn in_a_browser(lab: &Lab) -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = root.join("tests/web/node_modules/axe-core").is_dir();
    ensure(installed, || "tests/web has no axe-core; .ci/install-test installs it".into())?;
    deploy_sample(lab)?;
    streams::prepare(lab, "page-tools", &["a1"])?;
    let file = tempfile::NamedTempFile::with_suffix(".yaml").map_err(|e| failed("manifest", e))?;
    fs::write(file.path(), SECRET).map_err(|error| failed("manifest", error))?;
    succeed(&mut lab.holdfast(&["apply", "-f", &file.path().to_string_lossy()])?)?;
    let make = ["access", "user-token", "create", "--user", "page-stranger", "-o", "json"];
    let token: Value = serde_json::from_str(&succeed(&mut lab.holdfast(&make)?)?)
        .map_err(|error| failed("user token", error))?;
    let shots = root.join(".build/ui-screenshots");
    let kill = format!("{} lab fault kill c1 --dir {}", binary().display(), lab.dir().display());
    let said = succeed(
        Command::new("node")
            .arg(root.join("tests/web/admin_page.mjs"))
            .env("HOLDFAST_ADMIN_URL", page_of(lab, "a1")?)
            .env("HOLDFAST_ADMIN_PASSWORD", lab.env("HOLDFAST_ADMIN_PASSWORD")?)
            .env("HOLDFAST_TOKEN", token["token"].as_str().unwrap_or_default())
            .env("HOLDFAST_SHELL_POD", SHELL_POD)
            .env("HOLDFAST_KILL", kill)
            .env("HOLDFAST_SHOTS", &shots),
    );
    // Whatever was seen, the lab is left as it was.
    lab.fault("start", "c1")?;
    lab.settled(3)?;
    let revoke = ["access", "user-token", "revoke", token["info"]["id"].as_str().unwrap_or("")];
    succeed(&mut lab.holdfast(&revoke)?)?;
    succeed(&mut lab.holdfast(&["delete", "pod", SHELL_POD])?)?;
    succeed(&mut lab.holdfast(&["delete", "secret", "page-test"])?)?;
    // The page deletes the Deployment that it has made, unless something went wrong before.
    for kind in ["deployment", "service"] {
        succeed(&mut lab.holdfast(&["delete", kind, "page-shop", "--ignore-not-found"])?)?;
    }
    deploy_sample(lab)?;
    let said = said?;
    ensure(said.contains("the admin page is right"), || said.clone())?;
    ensure(shots.join("overview-zh.png").is_file(), || "no screenshot was kept".into())
}
