//! The runner against a temporary directory: changed flags, check mode, and a kill at
//! every step followed by a resume.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::sys::files;
use crate::sys::services::{ServiceError, ServiceManager};

#[derive(Debug)]
struct Files;

impl BundleFiles for Files {
    fn digest(&self) -> String {
        "bundle-1".into()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, BundleFileError> {
        match name {
            "playbooks/templates/unit.j2" => Ok(b"port={{ port }}\nhost={{ hostname }}\n".to_vec()),
            "playbooks/files/plain" => Ok(b"plain\n".to_vec()),
            _ => Err(BundleFileError { name: name.into(), reason: "absent".into() }),
        }
    }

    fn extract_tree(&self, name: &str, dest: &Path) -> Result<(), BundleFileError> {
        files::create_dir(&dest.join("bin"), 0o755)
            .and_then(|()| files::write_atomic(&dest.join("bin/dockerd"), b"elf", 0o755))
            .map_err(|error| BundleFileError { name: name.into(), reason: error.to_string() })
    }
}

#[derive(Debug, Default)]
struct Services {
    running: Mutex<Vec<String>>,
    restarts: AtomicUsize,
}

#[async_trait]
impl ServiceManager for Services {
    fn name(&self) -> &'static str {
        "holdfast-init"
    }
    async fn start(&self, name: &str) -> Result<(), ServiceError> {
        self.running.lock().expect("lock").push(name.to_owned());
        Ok(())
    }
    async fn stop(&self, name: &str) -> Result<(), ServiceError> {
        self.running.lock().expect("lock").retain(|other| other != name);
        Ok(())
    }
    async fn restart(&self, name: &str) -> Result<(), ServiceError> {
        self.restarts.fetch_add(1, Ordering::SeqCst);
        if !self.is_running(name).await? {
            self.start(name).await?;
        }
        Ok(())
    }
    async fn is_running(&self, name: &str) -> Result<bool, ServiceError> {
        Ok(self.running.lock().expect("lock").iter().any(|other| other == name))
    }
}

const BOOK: &str = r#"
- hosts: all
  become: true
  vars: {greeting: "hello {{ port }}"}
  tasks:
    - name: a directory
      file: {path: "{{ root }}/etc/conf", state: directory, mode: "0750"}
    - name: some files
      copy: {dest: "{{ root }}/etc/conf/{{ item.name }}", content: "{{ item.text }}", mode: "0644"}
      loop: [{name: one, text: "1"}, {name: two, text: "{{ greeting }}"}]
      register: copied
    - name: look
      ansible.builtin.stat: {path: "{{ root }}/etc/conf/two"}
      register: looked
    - assert: {that: ["looked.stat.exists", "copied.results | length == 2"]}
      when: not ansible_check_mode
    - name: a template
      template: {src: unit.j2, dest: "{{ root }}/etc/unit", mode: "0644"}
      notify: restart it
    - name: never here
      fail: {msg: "a lab host cannot do this"}
      when: not lab_host
    - block:
        - set_fact: {colour: red}
        - copy: {src: plain, dest: "{{ root }}/{{ colour }}"}
      when: port == 5000
    - name: the engine
      bundle_tree: {name: engine, dest: "{{ root }}/opt/engine"}
    - name: append something once
      command:
        cmd: sh -c "echo x >> {{ root }}/appended"
        creates: "{{ root }}/appended"
    - name: fails but may
      command: sh -c "exit 3"
      register: failing
      failed_when: failing.rc != 3
      changed_when: false
    - name: running
      service: {name: it, state: started, enabled: true}
  handlers:
    - name: restart it
      service: {name: it, state: restarted}
"#;

struct Bench {
    dir: tempfile::TempDir,
    services: Arc<Services>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        Self { dir, services: Arc::new(Services::default()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A runner that is cancelled at its `stop_at`th event.
    fn runner(&self, check: bool, stop_at: usize) -> Runner {
        let cancel = CancellationToken::new();
        let (count, token) = (AtomicUsize::new(0), cancel.clone());
        let reporter: Reporter = Arc::new(move |_| {
            if count.fetch_add(1, Ordering::SeqCst) + 1 == stop_at {
                token.cancel();
            }
        });
        let mut vars: Map<String, Value> = gather(self.services.as_ref());
        let given = json!({"root": self.dir.path(), "port": 5000, "lab_host": true});
        vars.extend(given.as_object().expect("literal").clone());
        Runner::new(RunnerInput {
            files: Arc::new(Files),
            services: Arc::clone(&self.services) as Arc<dyn ServiceManager>,
            undo: Arc::new(UndoLog::open(&self.path("undo")).expect("undo log")),
            vars,
            journal_dir: self.dir.path().to_owned(),
            check,
            tags: Vec::new(),
            reporter,
            cancel,
        })
    }

    async fn run(&self, check: bool, stop_at: usize) -> Result<PlaybookReport, PlaybookError> {
        let book = Playbook::parse("book", BOOK).expect("parses");
        self.runner(check, stop_at).run_playbook(&book).await
    }

    fn assert_done(&self) {
        let read = |name: &str| files::read_text(&self.path(name)).expect(name);
        assert_eq!(read("etc/conf/one"), "1");
        assert_eq!(read("etc/conf/two"), "hello 5000");
        assert!(read("etc/unit").starts_with("port=5000\nhost="));
        assert_eq!(read("red"), "plain\n");
        assert_eq!(read("appended"), "x\n");
        assert_eq!(read("opt/engine/bin/dockerd"), "elf");
        assert!(!self.path("opt/.engine.new").exists());
        assert_eq!(*self.services.running.lock().expect("lock"), ["it"]);
        assert!(self.services.restarts.load(Ordering::SeqCst) >= 1, "the handler ran");
        let mode = files::inspect(&self.path("etc/conf")).expect("looks").expect("exists").mode;
        assert_eq!(mode, 0o750);
    }
}

fn states(report: &PlaybookReport) -> Vec<TaskState> {
    report.tasks.iter().map(|task| task.state).collect()
}

#[tokio::test]
async fn a_second_run_changes_nothing() {
    let bench = Bench::new();
    let first = bench.run(false, 0).await.expect("runs");
    bench.assert_done();
    assert_eq!(first.changed, 8, "{first:#?}");
    let template = first.tasks.iter().find(|task| task.name == "a template").expect("ran");
    assert!(template.diff.as_deref().expect("diff").contains("+port=5000"));
    let second = bench.run(false, 0).await.expect("runs");
    assert_eq!(second.changed, 0, "{second:#?}");
    assert!(!states(&second).contains(&TaskState::Resumed), "a finished run is not resumed");
    assert_eq!(bench.services.restarts.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn check_mode_says_what_would_change_and_changes_nothing() {
    let bench = Bench::new();
    let report = bench.run(true, 0).await.expect("runs");
    assert!(report.changed >= 5, "{report:#?}");
    assert_eq!(files::list_dir(bench.dir.path()).expect("lists"), Vec::<PathBuf>::new());
    assert!(bench.services.running.lock().expect("lock").is_empty());
}

#[tokio::test]
async fn a_run_killed_at_any_step_is_finished_by_the_next() {
    for stop_at in 1..100 {
        let bench = Bench::new();
        match bench.run(false, stop_at).await {
            Ok(_) => {
                assert!(stop_at > 30, "every step was a place to stop, not only {stop_at}");
                return;
            }
            Err(PlaybookError::Interrupted { .. }) => {}
            Err(error) => panic!("stop at {stop_at}: {error}"),
        }
        let report = bench.run(false, 0).await.expect("resumes");
        bench.assert_done();
        let resumed = states(&report).iter().filter(|s| **s == TaskState::Resumed).count();
        if stop_at > 6 {
            assert!(resumed >= 1, "stop at {stop_at} resumed nothing: {report:#?}");
        }
    }
    panic!("the run never ended");
}

#[tokio::test]
async fn undo_leaves_the_directory_as_it_was() {
    let bench = Bench::new();
    bench.run(false, 0).await.expect("runs");
    let log = UndoLog::open(&bench.path("undo")).expect("opens");
    assert_eq!(log.replay(), Vec::<String>::new());
    let mut left = files::list_dir(bench.dir.path()).expect("lists");
    left.retain(|path| !path.ends_with("undo"));
    // What a command made is nobody's to undo; the journal belongs to the caller.
    assert_eq!(left, [bench.path("appended"), bench.path("book.journal")]);
}

#[test]
fn every_mistake_in_a_playbook_is_named_with_its_line() {
    let text = "- hosts: all\n  taks: []\n  tasks:\n    - copi: {a: b}\n    - name: x\n      copy: {}\n      whn: true\n    - file: {}\n      notify: nobody\n";
    let error = Playbook::parse("bad", text).expect_err("bad");
    let lines: Vec<u64> = error.problems.iter().map(|problem| problem.line).collect();
    for line in [2, 4, 7, 8] {
        assert!(lines.contains(&line), "line {line} in {:#?}", error.problems);
    }
}

#[tokio::test]
async fn a_failure_names_file_line_task_and_cause() {
    let bench = Bench::new();
    let text = "- hosts: all\n  tasks:\n    - name: port\n      assert: {that: port == 1, fail_msg: 'port is {{ port }}'}\n";
    let book = Playbook::parse("small", text).expect("parses");
    let error = bench.runner(false, 0).run_playbook(&book).await.expect_err("fails");
    let text = crate::base::chain::chain(&error);
    assert_eq!(text, "small, line 3: task \"port\" failed: port is 5000");
}
