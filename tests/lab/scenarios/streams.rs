//! People get into pods with unmodified kubectl: commands, terminals, copies, ports.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use libtest_mimic::Failed;

use crate::harness::{
    Lab, Outcome, PATIENCE, contains, ensure, eventually, failed, has_kubectl, succeed, text,
};
use crate::scenarios::NODES;
use crate::scenarios::containers::service_pid;
use crate::scenarios::masters::deploy_sample;
use crate::scenarios::replication::import;
use crate::test_bundle;

/// A pod on that node with a shell that reads its own input.
fn shell_pod(node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: box-{node}, namespace: default}}\nspec:\n  \
         nodeName: {node}\n  terminationGracePeriodSeconds: 1\n  containers:\n    \
         - name: main\n      image: tools-0:1\n      stdin: true\n      args: [-c, \
         'while read line; do echo told $line; done; sleep 100000']\n"
    )
}

/// Makes the image, in a bundle of that name, and a pod on each of the nodes.
pub(crate) fn prepare(lab: &Lab, bundle: &str, nodes: &[&str]) -> Outcome {
    import(lab, "a1", bundle, |file| test_bundle::with_tools(file, "tools"))?;
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let file = place.path().join("boxes.yaml");
    let pods: Vec<String> = nodes.iter().map(|node| shell_pod(node)).collect();
    fs::write(&file, pods.join("---\n")).map_err(|error| failed("manifest", error))?;
    let path = file.to_string_lossy().into_owned();
    succeed(&mut lab.holdfast(&["apply", "-f", &path])?)?;
    for node in nodes {
        let wait = ["wait", "pod", &format!("box-{node}"), "--for=condition=Ready"];
        succeed(lab.kubectl(&wait)?.arg("--timeout=120s"))?;
    }
    Ok(())
}

/// kubectl by way of one master.
fn through(lab: &Lab, master: &str, arguments: &[&str]) -> Result<Command, Failed> {
    let facts = lab.facts()?;
    let port = facts["forwards"]["hosts"][master]["api"].as_u64().ok_or("no port of the API")?;
    let mut command = lab.kubectl(arguments)?;
    // Words after `--` are the command's in the pod, so this comes first.
    let program = command.get_program().to_owned();
    let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let environment: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command = Command::new(program);
    command.arg(format!("--server=https://127.0.0.1:{port}")).args(words).envs(environment);
    Ok(command)
}

fn fed(command: &mut Command, input: &[u8]) -> Result<Output, Failed> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed("kubectl", error))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).map_err(|error| failed("kubectl's input", error))?;
    }
    child.wait_with_output().map_err(|error| failed("kubectl", error))
}

/// The first line of a child that goes on.
fn first_line(child: &mut Child) -> Result<String, Failed> {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().ok_or("no output")?;
    // One byte at a time: what follows is the caller's.
    let mut byte = [0];
    loop {
        if stdout.read(&mut byte).map_err(|error| failed("output", error))? == 0 {
            return Err(format!("the output ended with {line:?}").into());
        }
        match byte[0] {
            b'\n' => return Ok(line),
            byte => line.push(char::from(byte)),
        }
    }
}

/// Processes of the whole machine, the lab's among them, whose command line has `words`.
fn processes(words: &str) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.trim() == words).count()
}

pub(crate) fn into_pods(lab: &Lab) -> Outcome {
    if !has_kubectl() {
        println!("SKIPPED t37: no kubectl on the PATH");
        return Ok(());
    }
    prepare(lab, "tools-enter", &["b1"])?;
    for master in NODES {
        let script = "cat; echo gone >&2; exit 5";
        let exec = ["exec", "-i", "box-b1", "--", "/bin/sh", "-c", script];
        let done = fed(&mut through(lab, master, &exec)?, b"typed")?;
        ensure(done.status.code() == Some(5) && done.stdout == b"typed", || text(&done))?;
        contains("errors", &text(&done), &["gone", "terminated with exit code 5"])?;
    }
    terminals(lab)?;
    copies(lab)?;
    attached(lab)?;
    ports(lab)?;
    debug(lab)?;
    nothing_is_left(lab)?;
    succeed(&mut lab.kubectl(&["delete", "pod", "box-b1"])?).map(drop)
}

fn terminals(lab: &Lab) -> Outcome {
    // The size comes when the command has begun, so it looks until there is one.
    let look = "i=0; while [ $i -lt 300 ] && [ \"$(stty size)\" = \"0 0\" ]; do i=$((i+1)); \
                sleep 0.1; done; stty size";
    let command = lab.kubectl(&["exec", "-it", "box-b1", "--", "/bin/sh", "-c", look])?;
    let mut script = on_terminal("stty rows 33 cols 99; exec", &command);
    contains("the terminal's size", &succeed(script.stdin(Stdio::null()))?, &["33 99"])
}

/// The command on a terminal of its own.
fn on_terminal(before: &str, command: &Command) -> Command {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{before} {}", words.join(" ")), "/dev/null"]);
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script
}

/// Two who attach one after the other: the end of the first one's input is not the end of
/// the container's.
fn attached(lab: &Lab) -> Outcome {
    for word in ["this", "that"] {
        let mut command = lab.kubectl(&["attach", "-q", "-i", "box-b1"])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed("kubectl", error))?;
        let told = child
            .stdin
            .take()
            .map_or(Ok(()), |mut stdin| stdin.write_all(format!("{word}\n").as_bytes()));
        let line = first_line(&mut child);
        let _ = child.kill();
        let _ = child.wait();
        told.map_err(|error| failed("kubectl's input", error))?;
        contains("attach", &line?, &[&format!("told {word}")])?;
    }
    Ok(())
}

fn copies(lab: &Lab) -> Outcome {
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let bytes: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    let at = |name: &str| place.path().join(name).to_string_lossy().into_owned();
    fs::write(at("here"), &bytes).map_err(|error| failed("file", error))?;
    succeed(&mut lab.kubectl(&["exec", "box-b1", "--", "/bin/mkdir", "-p", "/tmp"])?)?;
    succeed(&mut lab.kubectl(&["cp", &at("here"), "box-b1:/tmp/there"])?)?;
    succeed(&mut lab.kubectl(&["cp", "box-b1:/tmp/there", &at("back")])?)?;
    let back = fs::read(at("back")).map_err(|error| failed("copy", error))?;
    ensure(back == bytes, || format!("{} bytes came back differently", back.len()))
}

fn ports(lab: &Lab) -> Outcome {
    deploy_sample(lab)?;
    lab.pods_ready("hello", 3, |_| true)?;
    for target in ["service/hello", "deployment/hello"] {
        let port = if target.starts_with("service") { ":80" } else { ":8080" };
        let mut child = lab
            .kubectl(&["port-forward", target, port])?
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed("kubectl", error))?;
        let asked = first_line(&mut child).and_then(|line| {
            let address = line.split_whitespace().nth(2).unwrap_or_default().to_owned();
            for _ in 0..5 {
                let mut stream =
                    TcpStream::connect(&address).map_err(|e| failed(line.clone(), e))?;
                let request = "GET / HTTP/1.0\r\nHost: hello\r\n\r\n";
                let mut answer = String::new();
                stream
                    .write_all(request.as_bytes())
                    .and_then(|()| stream.read_to_string(&mut answer))
                    .map_err(|error| failed(target, error))?;
                contains(target, &answer, &["200 OK", "hello-"])?;
            }
            Ok(())
        });
        let _ = child.kill();
        let _ = child.wait();
        asked?;
    }
    Ok(())
}

fn debug(lab: &Lab) -> Outcome {
    let look = ["debug", "box-b1", "--image=tools-0:1", "--target=main", "-c", "look", "--"];
    let words: Vec<&str> =
        look.into_iter().chain(["/bin/sh", "-c", "cat /proc/1/cmdline"]).collect();
    succeed(&mut lab.kubectl(&words)?)?;
    eventually("the debugging container sees the other's process", PATIENCE, || {
        let seen = succeed(&mut lab.kubectl(&["logs", "box-b1", "-c", "look"])?)?;
        contains("the first process", &seen, &["while read line"])
    })
}

/// A terminal whose kubectl is killed takes its processes along; so does an input's end.
fn nothing_is_left(lab: &Lab) -> Outcome {
    let line = "/bin/sleep 71717";
    let mut children = Vec::new();
    for _ in 0..5 {
        let command = lab.kubectl(&["exec", "-it", "box-b1", "--", "/bin/sleep", "71717"])?;
        let mut script = on_terminal("exec", &command);
        script.stdin(Stdio::piped()).stdout(Stdio::null());
        children.push(script.spawn().map_err(|error| failed("script", error))?);
    }
    let begun = eventually("all five run", PATIENCE, || {
        ensure(processes(line) == 5, || format!("{} run", processes(line)))
    });
    for child in &mut children {
        let _ = child.kill();
        let _ = child.wait();
    }
    begun?;
    eventually("none of them runs any more", PATIENCE, || {
        ensure(processes(line) == 0, || format!("{} still run", processes(line)))
    })
}

/// Reads lines until one has the number or a later one.
fn counted(lines: &mut impl BufRead, least: u64) -> Result<u64, Failed> {
    let begun = Instant::now();
    let mut line = String::new();
    while begun.elapsed() < PATIENCE {
        line.clear();
        if lines.read_line(&mut line).map_err(|error| failed("output", error))? == 0 {
            return Err("the command's output ended".into());
        }
        match line.trim().parse() {
            Ok(number) if number >= least => return Ok(number),
            _ => {}
        }
    }
    Err(format!("no {least} came; the last was {line:?}").into())
}

/// Kills the program on a host; its service manager starts it again.
fn kill_program(lab: &Lab, node: &str) -> Outcome {
    let pid = service_pid(lab, node, "holdfast")?.to_string();
    succeed(&mut lab.on(node, &["holdfast", "probe", "kill", &pid])).map(drop)
}

pub(crate) fn outlive_a_leader(lab: &Lab) -> Outcome {
    if !has_kubectl() {
        println!("SKIPPED t45: no kubectl on the PATH");
        return Ok(());
    }
    let leader = lab.leader("a1")?;
    let others: Vec<&str> = NODES.into_iter().filter(|node| *node != leader).collect();
    let [node, master] = others.as_slice() else { return Err("three masters".into()) };
    prepare(lab, "tools-outlive", &[node])?;
    let script = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; sleep 0.1; done";
    let name = format!("box-{node}");
    let mut child = through(lab, master, &["exec", &name, "--", "/bin/sh", "-c", script])?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed("kubectl", error))?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?);
    let checked = counted(&mut lines, 1).and_then(|before| {
        kill_program(lab, &leader)?;
        lab.settled(3)?;
        counted(&mut lines, before + 20)?;
        // The server in between dies, and the client hears of it at once.
        kill_program(lab, master)?;
        eventually("kubectl has ended", PATIENCE, || {
            let ended = child.try_wait().map_err(|error| failed("kubectl", error))?;
            ended.ok_or_else(|| Failed::from("it still runs"))
        })
    });
    let _ = child.kill();
    let mut said = String::new();
    if let Some(mut errors) = child.stderr.take() {
        let _ = errors.read_to_string(&mut said);
    }
    lab.settled(3)?;
    let ended = checked?;
    ensure(!ended.success() && said.contains("error"), || format!("{ended:?}: {said}"))?;
    succeed(&mut lab.kubectl(&["delete", "pod", &name])?).map(drop)
}
