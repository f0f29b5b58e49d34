//! A container's life: exec, attach, signals, death of the agent and of the shim, removal without a trace.
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use orch::runtime::{Error, ExecConfig, Phase, Runtime, Session};
use tokio::time::timeout;

use crate::support::{DEADLINE, eventually, node, open, open_with};

fn exec(args: &[&str]) -> ExecConfig {
    ExecConfig { args: args.iter().map(|arg| arg.to_string()).collect(), tty: false, stdin: true, stdout: true, stderr: true }
}

async fn read_all(fd: Option<OwnedFd>) -> String {
    let fd = fd.expect("a stream");
    let read = tokio::task::spawn_blocking(move || {
        let (mut file, mut bytes, mut buffer) = (std::fs::File::from(fd), Vec::new(), [0; 4096]);
        // A terminal ends with EIO.
        while let Ok(count @ 1..) = file.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(bytes).unwrap()
    });
    timeout(DEADLINE, read).await.expect("output in time").unwrap()
}

async fn finish(session: Session) -> (i32, String, String) {
    let (out, err) = (read_all(session.stdout).await, read_all(session.stderr).await);
    (timeout(DEADLINE, session.exit).await.expect("an exit in time").unwrap(), out, err)
}

#[tokio::test]
async fn exec_with_pipes() {
    let Some(node) = node() else { return };
    node.sandbox("s").await;
    node.start("s", &node.container("c-0", "exec sleep 1000", "process: {env: ['A=1'], user: {uid: 5, gid: 6}}")).await;
    let mut session = node
        .runtime
        .exec("s", "c-0", &exec(&["sh", "-c", "cat; echo $A $(id -u) >&2; tr '\\0' ' ' </proc/1/cmdline; exit 3"]))
        .await
        .unwrap();
    let mut stdin = std::fs::File::from(session.stdin.take().unwrap());
    stdin.write_all(b"typed\n").unwrap();
    drop(stdin);
    assert_eq!(finish(session).await, (3, "typed\nsleep 1000 ".into(), "1 5\n".into()));
    let error = node.runtime.exec("s", "c-0", &exec(&["nonesuch"])).await.err().unwrap();
    assert_eq!(error.to_string(), "exec: \"nonesuch\": executable file not found in $PATH");
    assert!(matches!(node.runtime.exec("s", "other", &exec(&["true"])).await, Err(Error::NotFound(_))));
    assert!(node.runtime.stats(&format!("{}/s/c-0", node.cgroup)).await.unwrap().pids >= 1);
}

#[tokio::test]
async fn containers_begin_with_the_old_limit_of_open_files() {
    let Some(mut node) = node() else { return };
    node.runtime = open_with(node.dir.path(), Some(77));
    node.exits = node.runtime.exits();
    node.sandbox("s").await;
    node.start("s", &node.container("c-0", "ulimit -Sn; ulimit -Hn; exec sleep 1000", "")).await;
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap();
    let said = ["stdout F 77".to_owned(), format!("stdout F {most}")];
    eventually("both limits", || node.records("c-0") == said);
    let session = node.runtime.exec("s", "c-0", &exec(&["sh", "-c", "ulimit -Sn"])).await.unwrap();
    assert_eq!(finish(session).await, (0, "77\n".into(), String::new()));
}

#[tokio::test]
async fn exec_with_a_terminal_that_resizes() {
    let Some(node) = node() else { return };
    node.sandbox("s").await;
    node.start("s", &node.container("c-0", "exec sleep 1000", "")).await;
    let config =
        ExecConfig { tty: true, stderr: false, ..exec(&["sh", "-c", "trap 'stty size; exit 4' WINCH; echo ready; read x; exit 9"]) };
    let mut session = node.runtime.exec("s", "c-0", &config).await.unwrap();
    let mut output = std::fs::File::from(session.stdout.take().unwrap());
    let mut text = String::new();
    // busybox sh runs traps after the foreground command; reading is interrupted by the signal.
    while !text.contains("ready") {
        let mut buffer = [0; 256];
        let count = output.read(&mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    session.resize.send((123, 45)).await.unwrap();
    let rest = read_all(Some(output.into())).await;
    assert!(rest.contains("45 123"), "{text:?} {rest:?}");
    assert_eq!(timeout(DEADLINE, session.exit).await.unwrap().unwrap(), 4);
}

#[tokio::test]
async fn attach_sees_output_and_types() {
    let Some(mut node) = node() else { return };
    node.sandbox("s").await;
    let mut config = node.container("c-0", "while read x; do echo got $x; test $x = end && exit 5; done", "");
    (config.stdin, config.stdin_once) = (true, false);
    node.start("s", &config).await;
    let watcher = node.runtime.attach("s", "c-0", false).await.unwrap();
    let mut first = node.runtime.attach("s", "c-0", true).await.unwrap();
    std::fs::File::from(first.stdin.take().unwrap()).write_all(b"one\n").unwrap();
    drop(first);
    let mut second = node.runtime.attach("s", "c-0", true).await.unwrap();
    std::fs::File::from(second.stdin.take().unwrap()).write_all(b"end\n").unwrap();
    assert_eq!(node.wait("s", "c-0").await, (5, false));
    assert_eq!(finish(watcher).await, (5, "got one\ngot end\n".into(), String::new()));
    assert_eq!(node.records("c-0"), ["stdout F got one", "stdout F got end"]);
}

#[tokio::test]
async fn input_once_ends_with_the_first_to_attach() {
    let Some(mut node) = node() else { return };
    node.sandbox("s").await;
    let mut config = node.container("c-0", "cat; echo done", "");
    (config.stdin, config.stdin_once) = (true, true);
    node.start("s", &config).await;
    let mut session = node.runtime.attach("s", "c-0", true).await.unwrap();
    std::fs::File::from(session.stdin.take().unwrap()).write_all(b"x\n").unwrap();
    assert_eq!(node.wait("s", "c-0").await, (0, false));
    assert_eq!(node.records("c-0"), ["stdout F x", "stdout F done"]);
}

#[tokio::test]
async fn a_container_with_a_terminal() {
    let Some(mut node) = node() else { return };
    node.sandbox("s").await;
    let config = node.container("c-0", "test -t 0 && test -t 1 && test -c /dev/console && echo tty", "process: {terminal: true}");
    node.start("s", &config).await;
    assert_eq!(node.wait("s", "c-0").await.0, 0);
    assert_eq!(node.records("c-0"), ["stdout F tty"]);
}

#[tokio::test]
async fn signals_end_with_their_code() {
    let Some(mut node) = node() else { return };
    node.sandbox("s").await;
    // The first process of a namespace ignores what it has no handler for.
    node.start("s", &node.container("c-0", "trap 'exit 143' TERM; echo up; while :; do sleep 0.05; done", "")).await;
    eventually("the trap is set", || !node.records("c-0").is_empty());
    node.runtime.signal_container("s", "c-0", 15).await.unwrap();
    assert_eq!(node.wait("s", "c-0").await, (143, false));
    node.start("s", &node.container("c-1", "exec sleep 1000", "")).await;
    node.runtime.signal_container("s", "c-1", 9).await.unwrap();
    assert_eq!(node.wait("s", "c-1").await, (137, false));
}

#[tokio::test]
async fn containers_share_network_ipc_and_shm_but_not_processes() {
    let Some(node) = node() else { return };
    node.sandbox("s").await;
    let script = "for n in net ipc uts pid mnt cgroup; do echo $n $(readlink /proc/self/ns/$n); done";
    for id in ["a-0", "b-0"] {
        // The first still runs while the second looks: the numbers of namespaces that are gone come again.
        let script = format!("ls /dev/shm; touch /dev/shm/{id}; {script}; ip link show lo | grep -c UP; echo end; exec sleep 1000");
        node.start("s", &node.container(id, &script, "")).await;
        eventually("its last line", || node.records(id).last().is_some_and(|line| line.ends_with("end")));
    }
    let (a, b) = (node.records("a-0"), node.records("b-0"));
    assert_eq!(b[0], "stdout F a-0");
    assert_eq!((&a[..3], a.last()), (&b[1..4], b.last()));
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!a[0].contains(&*host.to_string_lossy()), "the host's network namespace");
    assert!(a[3..6].iter().zip(&b[4..7]).all(|(a, b)| a != b), "{a:?} {b:?}");
}

#[tokio::test]
async fn processes_can_be_shared() {
    let Some(mut node) = node() else { return };
    let config = orch::runtime::SandboxConfig { share_processes: true, ..node.sandbox_config("s") };
    node.runtime.create_sandbox(&config).await.unwrap();
    node.start("s", &node.container("a-0", "exec sleep 1234", "")).await;
    node.start("s", &node.container("b-0", "ps; echo $$", "")).await;
    assert_eq!(node.wait("s", "b-0").await.0, 0);
    let records = node.records("b-0").join("\n");
    assert!(records.contains("sleep 1234") && !records.ends_with(" F 1"), "{records}");
    assert_eq!(node.runtime.exec("s", "a-0", &exec(&["true"])).await.unwrap().exit.await.unwrap(), 0);
}

#[tokio::test]
async fn one_container_joins_the_processes_of_another() {
    let Some(mut node) = node() else { return };
    node.sandbox("s").await;
    node.start("s", &node.container("a-0", "exec sleep 1234", "")).await;
    let joins = |target: &str| Some(target.to_owned());
    let script = "readlink /proc/self/ns/pid; ps; exec sleep 1235";
    let seer = orch::runtime::ContainerConfig { joins: joins("a-0"), ..node.container("b-0", script, "") };
    node.start("s", &seer).await;
    eventually("both are seen", || node.records("b-0").join("\n").contains("sleep 1234"));
    let (code, out, _) = finish(node.runtime.exec("s", "b-0", &exec(&["ps"])).await.unwrap()).await;
    assert!(code == 0 && out.contains("sleep 1234") && out.contains("sleep 1235"), "{out}");
    let (_, other, _) = finish(node.runtime.exec("s", "a-0", &exec(&["readlink", "/proc/self/ns/pid"])).await.unwrap()).await;
    assert_eq!(node.records("b-0")[0], format!("stdout F {}", other.trim()));
    // One that comes later has its own again, and the shim is where it was.
    node.start("s", &node.container("c-0", "echo $$", "")).await;
    assert_eq!((node.wait("s", "c-0").await.0, node.records("c-0")), (0, vec!["stdout F 1".to_string()]));
    node.runtime.signal_container("s", "a-0", 9).await.unwrap();
    assert_eq!(node.wait("s", "b-0").await.0, 137, "the namespace is its first process's");
    let late = orch::runtime::ContainerConfig { joins: joins("a-0"), ..node.container("d-0", "true", "") };
    let error = node.runtime.create_container("s", &late).await.unwrap_err();
    assert_eq!(error.to_string(), "container \"a-0\" is not running");
}

#[tokio::test]
async fn nothing_is_lost_while_the_agent_is_away() {
    let Some(mut node) = node() else { return };
    node.sandbox("s").await;
    node.start("s", &node.container("c-0", "i=0; while test $i -lt 3000; do i=$((i+1)); echo $i; done; exec sleep 1000", "")).await;
    node.start("s", &node.container("c-1", "exit 9", "")).await;
    let Phase::Running { pid, .. } = node.phase("s", "c-0").await else { panic!("not running") };
    // A second runtime on the same directory is what a new agent is; the first just stops.
    let old = std::mem::replace(&mut node.runtime, open(node.dir.path()));
    drop(old);
    node.exits = node.runtime.exits();
    let found = node.runtime.sandboxes().await.unwrap();
    assert_eq!((found.len(), found[0].config.id.as_str(), found[0].containers.len()), (1, "s", 2));
    assert!(matches!(node.phase("s", "c-0").await, Phase::Running { pid: now, .. } if now == pid));
    assert_eq!(node.wait("s", "c-1").await, (9, false));
    eventually("all lines", || node.records("c-0").len() == 3000);
    assert!(node.records("c-0").iter().enumerate().all(|(n, line)| *line == format!("stdout F {}", n + 1)));
    node.runtime.remove_container("s", "c-0").await.unwrap();
}

#[tokio::test]
async fn a_killed_shim_takes_its_containers_along() {
    let Some(mut node) = node() else { return };
    let sandbox = node.runtime.create_sandbox(&node.sandbox_config("s")).await.unwrap();
    node.start("s", &node.container("c-0", "exec sleep 1000", "")).await;
    let Phase::Running { pid, .. } = node.phase("s", "c-0").await else { panic!("not running") };
    let signal = |signal| rustix::process::kill_process(rustix::process::Pid::from_raw(sandbox.pid).unwrap(), signal).unwrap();
    signal(rustix::process::Signal::TERM);
    assert!(matches!(node.phase("s", "c-0").await, Phase::Running { .. }), "SIGTERM must not end a shim");
    signal(rustix::process::Signal::KILL);
    let exit = timeout(DEADLINE, node.exits.recv()).await.unwrap().unwrap();
    assert_eq!((exit.sandbox.as_str(), exit.container), ("s", None));
    eventually("the container is gone", || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z ")));
    assert!(matches!(node.runtime.containers("s").await, Err(Error::ShimGone(_))));
    assert!(node.runtime.sandboxes().await.unwrap().is_empty());
    assert_eq!(node.cgroups(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn removal_leaves_nothing_and_can_be_repeated() {
    let Some(node) = node() else { return };
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    node.sandbox("s").await;
    for id in ["running-0", "created-0"] {
        node.runtime.create_container("s", &node.container(id, "exec sleep 1000", "")).await.unwrap();
    }
    node.runtime.start_container("s", "running-0").await.unwrap();
    assert_eq!(before, mounts(), "a mount on the host");
    assert!(!node.cgroups().is_empty());
    let containers = node.dir.path().join("run/sandboxes/s/containers");
    for _ in 0..2 {
        node.runtime.remove_container("s", "running-0").await.unwrap();
    }
    assert!(!containers.join("running-0").exists() && containers.join("created-0").exists());
    for _ in 0..2 {
        node.runtime.remove_sandbox("s").await.unwrap();
    }
    assert_eq!(node.cgroups(), Vec::<std::path::PathBuf>::new());
    assert!(!node.dir.path().join("run/sandboxes/s").exists());
    assert!(matches!(node.runtime.containers("s").await, Err(Error::NotFound(_))));
}
