//! What a container sees: output, environment, identity, file systems, privileges, limits.
use crate::support::node;

#[tokio::test]
async fn exit_code_and_both_outputs() {
    let Some(mut node) = node() else { return };
    node.sandbox("s").await;
    let config = node.container("c-0", "echo out; echo err >&2; printf part; exit 7", "");
    node.start("s", &config).await;
    assert_eq!(node.wait("s", "c-0").await, (7, false));
    let mut records = node.records("c-0");
    records.sort();
    assert_eq!(records, ["stderr F err", "stdout F out", "stdout P part"]);
}

#[tokio::test]
async fn logs_rotate_and_cut_long_lines() {
    let Some(mut node) = node() else { return };
    node.sandbox("s").await;
    let mut config = node.container("c-0", "head -c 20000 /dev/zero | tr '\\0' x; echo; seq 1 20000", "");
    config.log_max_bytes = 100_000;
    config.log_files = 20;
    node.start("s", &config).await;
    assert_eq!(node.wait("s", "c-0").await.0, 0);
    let dir = node.log("c-0").parent().unwrap().to_path_buf();
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 3, "{files:?}");
    // The current one has the shortest name but the newest lines.
    files.sort();
    files.rotate_left(1);
    let text: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let lines: Vec<_> = text.lines().map(|line| line.splitn(4, ' ').skip(2).collect::<Vec<_>>()).collect();
    assert_eq!((lines[0][0], lines[0][1].len()), ("P", 16384));
    assert_eq!((lines[1][0], lines[1][1].len()), ("F", 20000 - 16384));
    let numbers: Vec<_> = lines[2..].iter().map(|line| line[1].parse::<u32>().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=20000), "lines lost, doubled or out of order");
}

async fn check(script: &str, yaml: &str, expect: &str) {
    let Some(mut node) = node() else { return };
    let (code, output) = node.run(script, yaml).await;
    assert_eq!((code, output.as_str()), (0, expect), "{script} with {yaml}");
}

#[tokio::test]
async fn environment_and_directory() {
    check(
        "echo $A $HOME; pwd; hostname; echo $$; cat /proc/self/oom_score_adj",
        "process: {env: ['A=1'], cwd: /made/here}",
        "1 /root\n/made/here\ninside\n1\n0",
    )
    .await;
}

#[tokio::test]
async fn users_and_groups() {
    check("id -u; id -g; id -G; echo $HOME", "process: {user: {username: web, additionalGids: [77]}}", "33\n34\n34 4 77\n/var/www").await;
    check("id -u; id -g; umask", "process: {user: {uid: 1000, gid: 2000, umask: 63}}", "1000\n2000\n0077").await;
}

#[tokio::test]
async fn readonly_root_and_masks() {
    let yaml =
        "{root: {path: '', readonly: true}, linux: {maskedPaths: [/proc/version, /proc/none, /sys/firmware], readonlyPaths: [/proc/sys]}}";
    let script = "touch /x 2>/dev/null || echo ro; touch /dev/shm/x && echo shm; wc -c </proc/version; ls /sys/firmware | wc -l; \
                  echo 1 2>/dev/null >/proc/sys/vm/drop_caches || echo sysro; mount | grep -c ' /proc/sys '; touch /sys/x 2>/dev/null || echo sysfs";
    check(script, yaml, "ro\nshm\n0\n0\nsysro\n1\nsysfs").await;
}

#[tokio::test]
async fn devices_are_the_usual_ones() {
    check("for d in null zero full random urandom tty ptmx fd stdin stdout stderr shm mqueue pts; do test -e /dev/$d || echo no $d; done; head -c 3 /dev/zero | wc -c", "", "3").await;
}

#[tokio::test]
async fn capabilities_and_no_new_privs() {
    let yaml = "process: {noNewPrivileges: true, capabilities: {bounding: [CAP_CHOWN, CAP_KILL], effective: [CAP_CHOWN], permitted: [CAP_CHOWN, CAP_KILL]}}";
    let expect = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000021\nCapEff:\t0000000000000021\nCapBnd:\t0000000000000021\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1";
    // A root user regains on exec what the bounding set allows, as with every runtime.
    check("grep -E 'Cap|NoNew' /proc/self/status", yaml, expect).await;
}

#[tokio::test]
async fn ambient_capabilities_reach_other_users() {
    let yaml = "process: {user: {uid: 5, gid: 5}, capabilities: {bounding: [CAP_NET_BIND_SERVICE], effective: [CAP_NET_BIND_SERVICE], \
                permitted: [CAP_NET_BIND_SERVICE], inheritable: [CAP_NET_BIND_SERVICE], ambient: [CAP_NET_BIND_SERVICE]}}";
    check("grep CapEff /proc/self/status", yaml, "CapEff:\t0000000000000400").await;
}

#[tokio::test]
async fn the_default_seccomp_profile_denies() {
    let profile = serde_json::to_string(&orch::runtime::seccomp::default_profile()).unwrap();
    let caps = "[CAP_CHOWN, CAP_SYS_CHROOT]";
    for nnp in [false, true] {
        let yaml = format!(
            "{{process: {{noNewPrivileges: {nnp}, capabilities: {{bounding: {caps}, effective: {caps}, permitted: {caps}}}}}, linux: {{seccomp: {profile}}}}}"
        );
        let script = "grep Seccomp: /proc/self/status; unshare -n true 2>/dev/null || echo unshare; mount -t tmpfs x /tmp 2>/dev/null || echo mount; \
                      chroot / echo chroot; true | cat && echo works";
        check(script, &yaml, "Seccomp:\t2\nunshare\nmount\nchroot\nworks").await;
    }
}

#[tokio::test]
async fn mounts_are_made_and_stay_inside() {
    let Some(mut node) = node() else { return };
    let host = node.dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "content\n").unwrap();
    // A link in the image that points out must lead to a place inside.
    std::os::unix::fs::symlink("/../../../../escape", node.layer.join("link")).unwrap();
    let yaml = format!(
        "mounts: [{{destination: /a, type: bind, source: {0}, options: [rbind, ro]}}, {{destination: /b/file, type: bind, source: {0}/file, options: [bind, rw]}}, \
         {{destination: /link/in, type: bind, source: {0}, options: [bind]}}, {{destination: /t, type: tmpfs, source: tmpfs, options: [size=64k, noexec]}}]",
        host.display()
    );
    let script = "cat /a/file /b/file /escape/in/file; touch /a/x 2>/dev/null || echo ro; echo more >>/b/file; mount | grep ' /t ' | grep -c noexec; \
                  ls -d /bin /host 2>/dev/null; grep -c overlay /proc/mounts";
    let (code, output) = node.run(script, &yaml).await;
    assert_eq!((code, output.as_str()), (0, "content\ncontent\ncontent\nro\n1\n/bin\n1"));
    assert_eq!(std::fs::read_to_string(host.join("file")).unwrap(), "content\nmore\n");
    assert!(!Path::new("/escape").exists());
}

use std::path::Path;

#[tokio::test]
async fn limits_hold() {
    let Some(mut node) = node() else { return };
    node.sandbox("s").await;
    let yaml = "linux: {resources: {memory: {limit: 16777216}}}";
    let config = node.container("oom-0", "head -c 100000000 /dev/zero | tail", yaml);
    node.start("s", &config).await;
    let (code, oom) = node.wait("s", "oom-0").await;
    assert!(code != 0 && oom, "exit code {code}, OOM {oom}");
    let config =
        node.container("pids-0", "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; echo never", "linux: {resources: {pids: {limit: 4}}}");
    node.start("s", &config).await;
    assert_ne!(node.wait("s", "pids-0").await.0, 0);
    assert!(node.records("pids-0").iter().all(|line| !line.contains("never")));
    let limits = node.container(
        "rlimit-0",
        "ulimit -n; cat /proc/self/oom_score_adj",
        "process: {oomScoreAdj: 500, rlimits: [{type: RLIMIT_NOFILE, soft: 99, hard: 99}]}",
    );
    node.start("s", &limits).await;
    assert_eq!(node.wait("s", "rlimit-0").await.0, 0);
    assert_eq!(node.records("rlimit-0"), ["stdout F 99", "stdout F 500"]);
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    use orch::runtime::Runtime;
    let Some(node) = node() else { return };
    node.sandbox("s").await;
    let cases = [
        ("process: {args: [nonesuch]}", "exec: \"nonesuch\": executable file not found in $PATH"),
        ("process: {args: [/etc/none]}", "exec: \"/etc/none\": stat /etc/none: no such file or directory"),
        ("process: {args: [/etc/passwd]}", "exec: \"/etc/passwd\": stat /etc/passwd: permission denied"),
        ("process: {user: {username: ghost}}", "unable to find user ghost: no matching entries in passwd file"),
        (
            "mounts: [{destination: /m, type: bind, source: /none/such, options: [bind]}]",
            "mounting /none/such: No such file or directory (os error 2)",
        ),
    ];
    for (yaml, expect) in cases {
        let error = node.runtime.create_container("s", &node.container("bad-0", "true", yaml)).await.unwrap_err();
        assert_eq!(error.to_string(), expect, "{yaml}");
    }
    assert!(matches!(node.runtime.start_container("s", "bad-0").await, Err(orch::runtime::Error::NotFound(_))));
}
