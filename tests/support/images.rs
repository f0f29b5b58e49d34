//! Images made from this machine's Debian packages, and a real registry that serves them.
//!
//! They are made once for all tests and kept below the target directory, in the registry's own storage, which the registries of
//! the tests then share read-only.
//!
//! | image | what it is |
//! |---|---|
//! | `busybox:1` | sh, wget, nslookup, tar, ...; one gzip layer |
//! | `nginx:1` | nginx on port 80 and busybox; the page says `one` |
//! | `nginx:2` | the same and a zstd layer on top: the page says `two`, /removed is whited out |

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::ORCH;
use super::host::{Host, checked};
use super::{eventually, fetch, step, which};

/// What [`Registry::start`] needs.
pub const TOOLS: &[&str] = &["docker-registry", "skopeo", "busybox", "nginx", "ldd", "tar", "gzip", "sha256sum"];
const ADDRESS: &str = "127.0.0.1:5000";
/// Changes whenever what is below makes something else.
const VERSION: u32 = 3;

const NGINX_CONF: &str = "daemon off;
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr;
events {}
http {
  access_log /dev/stdout;
  default_type text/plain;
  server { listen 80; root /srv; }
}
";

/// A registry on 127.0.0.1:5000 of a host.
pub struct Registry {
    child: Child,
}

impl Registry {
    /// Starts it, and makes its images if nobody did yet.
    pub fn start(host: &Host) -> Registry {
        let storage = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-registry-{VERSION}"));
        fs::create_dir_all(&storage).unwrap();
        let lock = fs::File::create(storage.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        let whole = storage.join("whole");
        if !whole.exists() {
            step("making images");
            let writable = Registry::serve(host, &storage, false);
            fill(host);
            drop(writable);
            fs::write(whole, "").unwrap();
        }
        drop(lock);
        Registry::serve(host, &storage, true)
    }

    fn serve(host: &Host, storage: &Path, readonly: bool) -> Registry {
        let config = json!({
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": storage}, "maintenance": {"readonly": {"enabled": readonly}}},
            "http": {"addr": ADDRESS},
        });
        let path = host.dir.join("docker-registry.yaml");
        fs::write(&path, config.to_string()).unwrap();
        let log = fs::File::create(host.dir.join("docker-registry.log")).unwrap();
        let mut command = host.command("docker-registry");
        let child = command.arg("serve").arg(path).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let registry = Registry { child };
        eventually(Duration::from_secs(20), "the registry answers", || fetch(ADDRESS, "/v2/"));
        registry
    }
}

/// Brings images of the registry on one host into the stores of others.
pub fn carry(from: &Host, images: &[&str], to: &[&Host]) {
    for image in images {
        let archive = from.dir.join(format!("{}.tar", image.replace(':', "-")));
        let archive = archive.display();
        let target = format!("docker-archive:{archive}:{image}");
        from.sh(&format!("skopeo --insecure-policy copy --quiet --src-tls-verify=false docker://{ADDRESS}/{image} {target}"));
        for host in to {
            host.sh(&format!("{ORCH} image import --data-dir $HOME/data {archive}"));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fill(host: &Host) {
    let work = host.dir.join("images");
    let layout = Layout::new(&work.join("layout"));
    let busybox = work.join("busybox");
    busybox_files(&busybox);
    let config = json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]});
    layout.image("busybox-1", &config, &[layout.gzip_layer(&busybox)]);

    let nginx = work.join("nginx");
    busybox_files(&nginx);
    nginx_files(&nginx);
    let base = layout.gzip_layer(&nginx);
    let config = json!({"Env": ["PATH=/bin:/usr/sbin"], "Entrypoint": ["/usr/sbin/nginx", "-c", "/etc/nginx.conf"],
        "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"});
    layout.image("nginx-1", &config, std::slice::from_ref(&base));
    let top = work.join("top");
    write(&top, "srv/index.html", "two\n");
    write(&top, ".wh.removed", "");
    layout.image("nginx-2", &config, &[base, layout.zstd_layer(&top)]);

    for (name, target) in [("busybox-1", "busybox:1"), ("nginx-1", "nginx:1"), ("nginx-2", "nginx:2")] {
        let mut command = host.limited(Duration::from_secs(60), "skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        command.arg(format!("oci:{}:{name}", layout.dir.display())).arg(format!("docker://{ADDRESS}/{target}"));
        checked(&format!("copying {target}"), command.output().unwrap());
    }
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn busybox_files(root: &Path) {
    let program = which("busybox").unwrap();
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "run"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy(&program, root.join("bin/busybox")).unwrap();
    let list = checked("busybox --list", Command::new(program).arg("--list").output().unwrap());
    for applet in list.lines().filter(|applet| *applet != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    write(root, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n");
    write(root, "etc/group", "root:x:0:\nwww-data:x:33:\n");
}

fn nginx_files(root: &Path) {
    let program = which("nginx").unwrap();
    let list = checked("ldd", Command::new("ldd").arg(&program).output().unwrap());
    let libraries = list.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    for file in libraries.chain([program]) {
        let target = root.join(file.strip_prefix("/").unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
    for dir in ["var/lib/nginx", "var/log/nginx"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    write(root, "etc/nginx.conf", NGINX_CONF);
    write(root, "srv/index.html", "one\n");
    write(root, "removed", "");
}

/// An OCI image layout on disk.
struct Layout {
    dir: PathBuf,
}

struct Layer {
    descriptor: Value,
    diff_id: String,
}

impl Layout {
    fn new(dir: &Path) -> Layout {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(dir.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        Layout { dir: dir.into() }
    }

    /// Adds a file as a blob; its descriptor.
    fn blob(&self, file: &Path, media_type: &str) -> Value {
        let digest = digest(file);
        let size = fs::metadata(file).unwrap().len();
        fs::rename(file, self.dir.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    fn text(&self, value: &Value, media_type: &str) -> Value {
        let file = self.dir.join("new");
        fs::write(&file, value.to_string()).unwrap();
        self.blob(&file, media_type)
    }

    fn tar(&self, root: &Path) -> (PathBuf, String) {
        let file = self.dir.join("new.tar");
        let mut command = Command::new("tar");
        command.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-cf"]).arg(&file);
        checked("tar", command.arg("-C").arg(root).arg(".").output().unwrap());
        let diff_id = digest(&file);
        (file, diff_id)
    }

    fn gzip_layer(&self, root: &Path) -> Layer {
        let (file, diff_id) = self.tar(root);
        checked("gzip", Command::new("gzip").args(["-1", "-n", "-f"]).arg(&file).stdin(Stdio::null()).output().unwrap());
        let descriptor = self.blob(&file.with_extension("tar.gz"), "application/vnd.oci.image.layer.v1.tar+gzip");
        Layer { descriptor, diff_id }
    }

    fn zstd_layer(&self, root: &Path) -> Layer {
        let (file, diff_id) = self.tar(root);
        let packed = file.with_extension("tar.zst");
        zstd::stream::copy_encode(fs::File::open(&file).unwrap(), fs::File::create(&packed).unwrap(), 1).unwrap();
        let descriptor = self.blob(&packed, "application/vnd.oci.image.layer.v1.tar+zstd");
        Layer { descriptor, diff_id }
    }

    fn image(&self, name: &str, config: &Value, layers: &[Layer]) {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.text(&config, "application/vnd.oci.image.config.v1+json");
        let layers: Vec<&Value> = layers.iter().map(|layer| &layer.descriptor).collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        let mut manifest = self.text(&manifest, media_type);
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        let path = self.dir.join("index.json");
        let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        index["manifests"].as_array_mut().unwrap().push(manifest);
        fs::write(path, index.to_string()).unwrap();
    }
}

/// `sha256:...` of a file.
pub fn digest(file: &Path) -> String {
    let text = checked("sha256sum", Command::new("sha256sum").arg(file).output().unwrap());
    format!("sha256:{}", text.split(' ').next().unwrap())
}
