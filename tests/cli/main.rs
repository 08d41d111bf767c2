//! The command line from outside: every verb given wrong arguments says in one line what
//! is wrong, prints no result, and ends with the code that scripts rely on.
//!
//! Runs the real program with an empty environment; nothing is sent anywhere but to a
//! port of loopback that is closed.

use std::path::Path;
use std::process::{Command, Output};

const USAGE: i32 = 64;
const UNREACHABLE: i32 = 69;

fn run(arguments: &[&str], kubeconfig: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .output()
        .expect("the program can be run")
}

/// What is wrong with how the program ended; empty if nothing.
fn complaint(arguments: &[&str], kubeconfig: &Path, code: i32, names: &str) -> Option<String> {
    let output = run(arguments, kubeconfig);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    let told = format!("{arguments:?}\nexit {:?}\n{out}{err}", output.status.code());
    let is_one_line = err.trim_end().lines().count() == 1;
    if output.status.code() != Some(code) {
        return Some(format!("not {code}: {told}"));
    }
    if !out.is_empty() || !err.starts_with("error: ") || !is_one_line {
        return Some(format!("not one line of error: {told}"));
    }
    (!err.contains(names)).then(|| format!("does not name {names:?}: {told}"))
}

#[test]
fn wrong_arguments_end_with_64_and_one_line_that_names_them() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let empty = dir.path().to_string_lossy().into_owned();
    let absent = dir.path().join("absent").to_string_lossy().into_owned();
    let absent = absent.as_str();
    let lab = ["--layout", "one", "--dir", absent, "--bundle", absent, "--trust", absent];
    let lab_up: Vec<&str> = ["lab", "up"].into_iter().chain(lab).collect();
    let strange: Vec<&str> = vec!["lab", "up", "--layout", "four", "--dir", absent];
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec!["get", "pods"], "absent"),
        (vec!["describe", "pod", "x"], "absent"),
        (vec!["delete", "pod", "x"], "absent"),
        (vec!["logs", "x"], "absent"),
        (vec!["status"], "absent"),
        (vec!["apply", "-f", absent], "absent"),
        (vec!["apply", "-f", &empty], "holds no"),
        (vec!["registry", "list"], "absent"),
        (vec!["registry", "import", "--bundle", absent, "--trust", absent], "absent"),
        (vec!["bundle", "verify", absent, "--trust", absent], "absent"),
        (vec!["bundle", "inspect", absent, "--trust", absent], "absent"),
        (vec!["bundle", "build", "--key", absent, "-o", absent], "absent"),
        (vec!["config", "check", absent], "absent"),
        (vec!["init", "--config", absent, "--bundle", absent, "--trust", absent], "absent"),
        (vec!["token", "--config-dir", absent, "list"], "--config-dir"),
        (lab_up, "absent"),
        (strange, "\"four\""),
        (vec!["lab", "env", "--dir", absent], "there is no lab"),
        (vec!["lab", "status", "--dir", absent], "there is no lab"),
        (vec!["lab", "fault", "kill", "a1", "--dir", absent], "there is no lab"),
        (vec!["lab", "exec", "a1", "--dir", absent, "--", "true"], "there is no lab"),
    ];
    let kubeconfig = dir.path().join("absent");
    let found: Vec<String> = cases
        .iter()
        .filter_map(|(arguments, names)| complaint(arguments, &kubeconfig, USAGE, names))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

#[test]
fn a_word_too_few_or_too_many_ends_with_64() {
    let nowhere = Path::new("/nonexistent");
    for arguments in [
        vec![],
        vec!["nonsense"],
        vec!["get"],
        vec!["describe"],
        vec!["apply"],
        vec!["delete"],
        vec!["logs"],
        vec!["status", "--nonsense"],
        vec!["init"],
        vec!["join", "--server", "nonsense"],
        vec!["token", "create"],
        vec!["lab", "up"],
        vec!["lab", "fault", "explode", "a1"],
        vec!["bundle", "verify"],
        vec!["registry"],
        vec!["preflight"],
    ] {
        let output = run(&arguments, nowhere);
        assert_eq!(output.status.code(), Some(USAGE), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_cluster_that_does_not_answer_ends_with_69() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let own = rcgen::generate_simple_self_signed(["nobody".to_owned()]).expect("a certificate");
    std::fs::write(dir.path().join("ca.crt"), own.cert.pem()).expect("the certificate is written");
    // Taken and given back, so that nobody listens there.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("its number").port();
    drop(socket);
    let kubeconfig = dir.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: \"https://127.0.0.1:{port}\", \
         certificate-authority: ca.crt}}}}]\n\
         users: [{{name: u, user: {{}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
    );
    std::fs::write(&kubeconfig, text).expect("the kubeconfig is written");
    let found: Vec<String> = [vec!["get", "pods"], vec!["status"], vec!["logs", "x"]]
        .iter()
        .filter_map(|arguments| complaint(arguments, &kubeconfig, UNREACHABLE, "127.0.0.1"))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}
