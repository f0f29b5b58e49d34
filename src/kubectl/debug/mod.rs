//! `debug`: looks into a pod, by an ephemeral container in it or by a copy of it; or into a node, by a pod on it.
//!
//! Follows `kubectl/pkg/cmd/debug/debug.go`. What is made is decided by [`Debug::ephemeral`], [`Debug::copy`] and [`Debug::on_node`], pure
//! functions of what is looked into.
mod custom;
mod profile;

use std::path::PathBuf;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::attach;
use super::error::{Error, Result};
use super::flags::Streams;
use super::pods;
use super::session::{JSON, Session, escape, with_query};
use super::target;
use super::verb::Verb;
use custom::Custom;
use profile::{Keep, Profile};

/// Flags of `debug`.
#[derive(Args, Clone, Debug)]
pub struct Debug {
    /// POD, pod/NAME or node/NAME
    pub words: Vec<String>,
    /// Image of the container to debug with
    #[arg(long)]
    pub image: Option<String>,
    /// Name of the container to debug with
    #[arg(short = 'c', long)]
    pub container: Option<String>,
    /// Container whose processes the ephemeral container sees
    #[arg(long)]
    pub target: Option<String>,
    /// Wait for the container and attach to it; with -i unless false
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub attach: Option<bool>,
    #[command(flatten)]
    pub streams: Streams,
    /// NAME=VALUE
    #[arg(long, value_delimiter = ',')]
    pub env: Vec<String>,
    /// What follows -- are arguments of the image's command
    #[arg(long)]
    pub arguments_only: bool,
    /// Always, IfNotPresent or Never
    #[arg(long, value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,
    /// What the container may do
    #[arg(long, value_enum, default_value = "legacy")]
    pub profile: Profile,
    /// File with a part of a container's spec, JSON or YAML, that goes over the profile
    #[arg(long, value_name = "FILE")]
    pub custom: Option<PathBuf>,
    /// Make a copy of the pod, of this name
    #[arg(long)]
    pub copy_to: Option<String>,
    /// With --copy-to: delete the pod that was copied
    #[arg(long)]
    pub replace: bool,
    /// With --copy-to: on the same node
    #[arg(long)]
    pub same_node: bool,
    /// With --copy-to: all containers of the copy see each other's processes
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub share_processes: Option<bool>,
    /// With --copy-to: NAME=IMAGE of containers, * of all
    #[arg(long, value_delimiter = ',')]
    pub set_image: Vec<String>,
    #[command(flatten)]
    pub keep: Keep,
    /// The command, after --
    #[arg(last = true)]
    pub command: Vec<String>,
}

impl Verb for Debug {
    const NAME: &'static str = "debug";
    const ABOUT: &'static str = "Look into a pod with a container added to it or with a copy of it, or into a node with a pod on it";

    async fn run(self, session: &Session) -> Result<i32> {
        self.check()?;
        let custom = self.custom.as_deref().map(Custom::read).transpose()?;
        if self.target.is_some() && !self.streams.quiet {
            let name = self.target.as_deref().unwrap_or_default();
            session.line(&format!(
                "Targeting container {name:?}. If you don't see processes from this container it may be because the container runtime \
                 doesn't support this feature."
            ))?;
        }
        if self.profile == Profile::Legacy {
            session.note(
                "--profile=legacy is deprecated and will be removed in the future. It is recommended to explicitly specify a profile, \
                 for example \"--profile=general\".",
            );
        }
        let mut code = 0;
        for found in self.found(session).await? {
            let (made, name) = match found["kind"] == "Node" {
                true => self.make_on_node(session, &found, custom.as_ref()).await?,
                false => {
                    let name = self.name(session, &found)?;
                    let made = match &self.copy_to {
                        Some(_) => self.make_copy(session, &found, &name, custom.as_ref()).await?,
                        None => self.add(session, &found, &name, custom.as_ref()).await?,
                    };
                    (made, name)
                }
            };
            if self.attach.unwrap_or(self.streams.stdin) && pods::find(&made, &name).is_some() {
                code = attach::when_started(session, &made, &name, self.streams).await?;
            }
        }
        Ok(code)
    }
}

/// Five characters at random.
fn suffix() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..5].to_owned()
}

impl Debug {
    fn check(&self) -> Result<()> {
        if self.words.is_empty() {
            return Error::usage("NAME or filename is required for debug");
        }
        if self.attach == Some(true) && self.image.is_none() && self.container.is_none() {
            return Error::usage("you must specify --container or create a new container using --image in order to attach.");
        }
        if self.streams.tty && !self.streams.stdin {
            return Error::usage("-i/--stdin is required for containers with -t/--tty=true");
        }
        let copies = self.copy_to.is_some();
        for (wrong, why) in [
            (
                copies && self.image.is_none() && self.set_image.is_empty() && self.command.is_empty(),
                "you must specify --image, --set-image or command arguments.",
            ),
            (
                copies && !self.command.is_empty() && self.container.is_none() && self.image.is_none(),
                "you must specify an existing container or a new image when specifying args.",
            ),
            (copies && self.target.is_some(), "--target is incompatible with --copy-to. Use --share-processes instead."),
            (!copies && self.replace, "--replace may only be used with --copy-to."),
            (!copies && self.same_node, "--same-node may only be used with --copy-to."),
            (!copies && !self.set_image.is_empty(), "--set-image may only be used with --copy-to."),
            (!copies && self.image.is_none(), "you must specify --image when not using --copy-to."),
        ] {
            if wrong {
                return Error::usage(why);
            }
        }
        Ok(())
    }

    /// The pods and nodes that are named.
    async fn found(&self, session: &Session) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        let words: Vec<Vec<String>> = match self.words.iter().any(|word| word.contains('/')) {
            true => vec![self.words.clone()],
            false => self.words.iter().map(|word| vec![format!("pods/{word}")]).collect(),
        };
        for words in words {
            for target in target::resolve(session, &words, false).await? {
                if !["Pod", "Node"].contains(&&*target.resource.kind) {
                    return Error::usage(format!("{:?} not supported by debug", target.resource.qualified()));
                }
                let mut object = session.get(&target.path(), JSON).await?;
                object["kind"] = target.resource.kind.as_str().into();
                found.push(object);
            }
        }
        Ok(found)
    }

    /// The name of the container: as said, or one that the pod does not have.
    fn name(&self, session: &Session, pod: &Value) -> Result<String> {
        if let Some(name) = &self.container {
            return Ok(name.clone());
        }
        if self.image.is_none() {
            return Ok(String::new());
        }
        let name = loop {
            let name = format!("debugger-{}", suffix());
            if pods::find(pod, &name).is_none() {
                break name;
            }
        };
        if !self.streams.quiet {
            session.line(&format!("Defaulting debug container name to {name}."))?;
        }
        Ok(name)
    }

    /// What the flags say of a container.
    fn apply(&self, container: &mut Value) -> Result<()> {
        if !self.command.is_empty() {
            container[if self.arguments_only { "args" } else { "command" }] = json!(self.command);
            if let (false, Some(fields)) = (self.arguments_only, container.as_object_mut()) {
                fields.remove("args");
            }
        }
        let mut env = Vec::new();
        for pair in &self.env {
            let Some((name, value)) = pair.split_once('=') else { return Error::usage(format!("{pair} must be formatted as key=value")) };
            env.push(json!({"name": name, "value": value}));
        }
        if !env.is_empty() {
            container["env"] = Value::Array(env);
        }
        for (field, value) in [("image", &self.image), ("imagePullPolicy", &self.image_pull_policy)] {
            if let Some(value) = value {
                container[field] = value.as_str().into();
            }
        }
        if let Some(fields) = container.as_object_mut() {
            // As Go writes them: what is false is left out.
            for (field, wanted) in [("stdin", self.streams.stdin), ("tty", self.streams.tty)] {
                fields.remove(field);
                fields.extend(wanted.then(|| (field.to_owned(), true.into())));
            }
        }
        Ok(())
    }

    /// The ephemeral container for a pod.
    fn ephemeral(&self, name: &str, custom: Option<&Custom>) -> Result<Value> {
        let mut container = json!({"name": name, "terminationMessagePolicy": "File"});
        self.apply(&mut container)?;
        if let Some(target) = &self.target {
            container["targetContainerName"] = target.as_str().into();
        }
        self.allow(&mut container, custom)?;
        Ok(container)
    }

    /// What the profile and a file say of a container.
    fn allow(&self, container: &mut Value, custom: Option<&Custom>) -> Result<()> {
        self.profile.apply(container);
        custom.map_or(Ok(()), |custom| custom.apply(container))
    }

    /// The pod that looks into a node: in its namespaces, with its files at `/host`, as far as the profile allows; it goes where no other would.
    fn on_node(&self, node: &str, pod: &str, custom: Option<&Custom>) -> Result<Value> {
        let name = self.container.as_deref().unwrap_or("debugger");
        let mut container = json!({"name": name, "terminationMessagePolicy": "File"});
        self.apply(&mut container)?;
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod},
            "spec": {"nodeName": node, "restartPolicy": "Never", "tolerations": [{"operator": "Exists"}]},
        });
        self.profile.open_node(&mut pod["spec"], &mut container);
        custom.map_or(Ok(()), |custom| custom.apply(&mut container))?;
        pod["spec"]["containers"] = json!([container]);
        Ok(pod)
    }

    /// The copy of a pod, where the container of this name is changed or added.
    fn copy(&self, pod: &Value, name: &str, custom: Option<&Custom>) -> Result<Value> {
        let mut copy = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.copy_to}, "spec": pod["spec"]});
        for field in ["namespace", "labels", "annotations"] {
            if !pod["metadata"][field].is_null() {
                copy["metadata"][field] = pod["metadata"][field].clone();
            }
        }
        let spec = copy["spec"].as_object_mut().ok_or_else(|| Error::Usage("the pod has no spec".into()))?;
        spec.remove("ephemeralContainers");
        if !self.same_node {
            spec.remove("nodeName");
        }
        if let Some(share) = self.share_processes {
            spec.insert("shareProcessNamespace".into(), share.into());
        }
        let mut images = Vec::new();
        for pair in &self.set_image {
            let Some(pair) = pair.split_once('=') else { return Error::usage(format!("{pair} must be formatted as key=value")) };
            images.push(pair);
        }
        let containers = spec.entry("containers").or_insert_with(|| json!([])).as_array_mut();
        let containers = containers.ok_or_else(|| Error::Usage("the pod's containers are no list".into()))?;
        for container in containers.iter_mut() {
            let own = images.iter().find(|(name, _)| container["name"] == *name).or_else(|| images.iter().find(|(name, _)| *name == "*"));
            if let Some((_, image)) = own {
                container["image"] = (*image).into();
            }
        }
        if let Some(at) = containers.iter().position(|container| container["name"] == name) {
            self.apply(&mut containers[at])?;
            self.allow(&mut containers[at], custom)?;
        } else if self.image.is_some() {
            let mut container = json!({"name": name, "terminationMessagePolicy": "File"});
            self.apply(&mut container)?;
            self.allow(&mut container, custom)?;
            containers.push(container);
        } else if !images.is_empty() {
            return Ok(copy);
        } else {
            return Error::usage("you must specify image when creating new container");
        }
        self.profile.strip(&mut copy, &self.keep);
        Ok(copy)
    }

    async fn make_on_node(&self, session: &Session, node: &Value, custom: Option<&Custom>) -> Result<(Value, String)> {
        let node = node["metadata"]["name"].as_str().unwrap_or_default();
        let name = format!("node-debugger-{node}-{}", suffix());
        let pod = self.on_node(node, &name, custom)?;
        let container = pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default().to_owned();
        if !self.streams.quiet {
            session.line(&format!("Creating debugging pod {name} with container {container} on node {node}."))?;
        }
        let path = format!("/api/v1/namespaces/{}/pods", escape(&session.namespace().await?));
        let made = session.change(Method::POST, &with_query(&path, &[("fieldManager", "kubectl-debug")]), &pod).await?;
        Ok((made, container))
    }

    async fn add(&self, session: &Session, pod: &Value, name: &str, custom: Option<&Custom>) -> Result<Value> {
        let (namespace, pod_name) = pods::place(pod);
        let path = format!("/api/v1/namespaces/{}/pods/{}/ephemeralcontainers", escape(namespace), escape(pod_name));
        let patch = json!({"spec": {"ephemeralContainers": [self.ephemeral(name, custom)?]}});
        let path = with_query(&path, &[("fieldManager", "kubectl-debug")]);
        session.change_as(Method::PATCH, &path, "application/strategic-merge-patch+json", &patch).await
    }

    async fn make_copy(&self, session: &Session, pod: &Value, name: &str, custom: Option<&Custom>) -> Result<Value> {
        let (namespace, pod_name) = pods::place(pod);
        let path = format!("/api/v1/namespaces/{}/pods", escape(namespace));
        let made =
            session.change(Method::POST, &with_query(&path, &[("fieldManager", "kubectl-debug")]), &self.copy(pod, name, custom)?).await?;
        if self.replace {
            let old = format!("{path}/{}", escape(pod_name));
            session.change(Method::DELETE, &with_query(&old, &[("gracePeriodSeconds", "0")]), &Value::Null).await?;
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    fn debug(line: &str) -> Debug {
        let words = std::iter::once("debug").chain(line.split(' '));
        let matches = Debug::augment_args(Command::new("debug")).try_get_matches_from(words).unwrap();
        Debug::from_arg_matches(&matches).unwrap()
    }

    fn yaml(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn ephemeral_containers() {
        for (line, want) in [
            ("p --image=x", "{name: d, terminationMessagePolicy: File, image: x}"),
            (
                "p --image=x --target=a -it --env=A=b --image-pull-policy=Never --profile=general -- sh -c x",
                "{name: d, terminationMessagePolicy: File, image: x, imagePullPolicy: Never, stdin: true, tty: true, command: [sh, -c, x],
                  targetContainerName: a, env: [{name: A, value: b}], securityContext: {capabilities: {add: [SYS_PTRACE]}}}",
            ),
            (
                "p --image=x --arguments-only --profile=restricted -- y",
                "{name: d, terminationMessagePolicy: File, image: x, args: [y], securityContext: {runAsNonRoot: true,
                  capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false, seccompProfile: {type: RuntimeDefault}}}",
            ),
        ] {
            let debug = debug(line);
            debug.check().unwrap();
            assert_eq!(debug.ephemeral("d", None).unwrap(), yaml(want), "{line}");
        }
    }

    #[test]
    fn copies() {
        let pod = yaml(
            "{metadata: {name: p, namespace: n, uid: u, labels: {a: b}}, status: {phase: Running}, spec: {nodeName: k,
              ephemeralContainers: [{name: e}], containers: [{name: a, image: x, args: [q], livenessProbe: {}}]}}",
        );
        for (line, want) in [
            (
                "p --copy-to=c --image=y --share-processes",
                "{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: n}, spec: {shareProcessNamespace: true, containers: [
                  {name: a, image: x, args: [q], livenessProbe: {}},
                  {name: d, terminationMessagePolicy: File, image: y}]}}",
            ),
            (
                "p --copy-to=c --set-image=*=z",
                "{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: n, labels: {a: b}}, spec: {containers: [
                  {name: a, image: z, args: [q], livenessProbe: {}}]}}",
            ),
            (
                "p --copy-to=c -c d --same-node --image=y --profile=sysadmin --keep-labels",
                "{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: n, labels: {a: b}}, spec: {nodeName: k, shareProcessNamespace: true,
                  containers: [{name: a, image: x, args: [q]},
                  {name: d, terminationMessagePolicy: File, image: y, securityContext: {privileged: true}}]}}",
            ),
        ] {
            let debug = debug(line);
            debug.check().unwrap();
            assert_eq!(debug.copy(&pod, "d", None).unwrap(), yaml(want), "{line}");
        }
        let changed = debug("p --copy-to=c -c a -i -- sh").copy(&pod, "a", None).unwrap();
        assert_eq!(changed["spec"]["containers"], yaml("[{name: a, image: x, livenessProbe: {}, command: [sh], stdin: true}]"));
    }

    #[test]
    fn pods_on_nodes() {
        let frame = |name: &str, container: &str, spec: &str| {
            yaml(&format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{nodeName: k, restartPolicy: Never, tolerations: [{{operator: Exists}}],
                  containers: [{{name: {name}, terminationMessagePolicy: File, image: x{container}}}]{spec}}}}}"
            ))
        };
        let (namespaces, volume) =
            (", hostNetwork: true, hostPID: true, hostIPC: true", ", volumes: [{name: host-root, hostPath: {path: /}}]");
        let mount = ", volumeMounts: [{mountPath: /host, name: host-root}]";
        let whole = format!("{namespaces}{volume}");
        let restricted = ", securityContext: {runAsNonRoot: true, capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false,
                            seccompProfile: {type: RuntimeDefault}}";
        for (profile, container, spec) in [
            ("legacy", mount.to_owned(), &*whole),
            ("general", mount.to_owned(), &*whole),
            ("sysadmin", format!("{mount}, securityContext: {{privileged: true}}"), &*whole),
            ("netadmin", ", securityContext: {capabilities: {add: [NET_ADMIN, NET_RAW]}}".to_owned(), namespaces),
            ("baseline", String::new(), ""),
            ("restricted", restricted.to_owned(), ""),
        ] {
            let debug = debug(&format!("node/k --image=x --profile={profile}"));
            debug.check().unwrap();
            assert_eq!(debug.on_node("k", "p", None).unwrap(), frame("debugger", &container, spec), "{profile}");
        }
        let named = debug("node/k --image=x -c other --profile=baseline -- sh").on_node("k", "p", None).unwrap();
        assert_eq!(named, frame("other", ", command: [sh]", ""));
    }

    #[test]
    fn flags_that_do_not_go_together() {
        for (line, why) in [
            ("p", "you must specify --image when not using --copy-to."),
            ("p --image=x -t", "-i/--stdin is required for containers with -t/--tty=true"),
            ("p --image=x --replace", "--replace may only be used with --copy-to."),
            ("p --copy-to=c", "you must specify --image, --set-image or command arguments."),
            ("p --copy-to=c --image=x --target=a", "--target is incompatible with --copy-to. Use --share-processes instead."),
        ] {
            assert_eq!(debug(line).check().unwrap_err().to_string(), format!("error: {why}"), "{line}");
        }
    }
}
