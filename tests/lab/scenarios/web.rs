//! The status page in a real browser: `tests/web/status_page.mjs` judges, this runs it
//! against the shared lab and keeps the screenshots in `target/web/`.

use std::path::Path;
use std::process::Command;

use crate::harness::{Lab, Outcome, ensure, succeed};

pub(crate) fn in_a_browser(lab: &Lab) -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = root.join("tests/web/node_modules/playwright-core").is_dir();
    ensure(installed, || "tests/web has no playwright-core; .ci/install-test installs it".into())?;
    let shots = root.join("target/web");
    let said = succeed(
        Command::new("node")
            .arg(root.join("tests/web/status_page.mjs"))
            .env("HOLDFAST_ADMIN_URL", lab.env("HOLDFAST_ADMIN_URL")?)
            .env("HOLDFAST_ADMIN_PASSWORD", lab.env("HOLDFAST_ADMIN_PASSWORD")?)
            .env("HOLDFAST_NODES", "a1,b1,c1")
            .env("HOLDFAST_SHOTS", &shots),
    )?;
    ensure(said.contains("the status page is right"), || said.clone())?;
    ensure(shots.join("status-page.png").is_file(), || "no screenshot was kept".into())
}
