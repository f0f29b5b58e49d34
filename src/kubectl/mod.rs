//! `orch kubectl`: the command line client.
//!
//! Words: a *verb* is a subcommand; a *session* is one invocation: its flags, its connection, its output; the *catalog* is what the server
//! says it serves; a *target* is a resource type, or one object of it, that the command line names.
//!
//! Invariants: one file per verb, one line in [`VERBS`]; a verb talks to the server through [`session::Session`] alone; tables are the
//! server's own (`as=Table`), so that a new kind needs nothing here. Errors are worded and exit codes chosen as upstream kubectl does.
//!
//! Never: state on disk besides the kubeconfig that `config` edits. Discovery is cached in memory only.

mod api_resources;
mod apply;
mod attach;
mod auth;
mod catalog;
mod certificate;
mod cluster_info;
mod config;
mod cordon;
mod cp;
mod create;
mod custom_columns;
mod debug;
mod delete;
mod describe;
mod drain;
mod error;
mod exec;
mod explain;
mod expose;
mod flags;
mod generators;
mod get;
mod kubeconfig;
mod label;
mod logs;
mod manifest;
mod objects;
mod output;
mod patch;
mod pods;
mod port_forward;
mod rollout;
mod run;
mod scale;
mod session;
mod set;
mod table;
mod tabs;
mod taint;
mod target;
mod terminal;
mod three_way;
mod time;
mod top;
mod unavailable;
mod verb;
mod version;
mod wait;

#[cfg(test)]
mod support;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Command, FromArgMatches};

use error::Error;
use session::Session;
use verb::{Entry, entry};

/// Every verb, in the order in which help lists them.
static VERBS: &[Entry] = &[
    entry::<get::Get>(),
    entry::<describe::Describe>(),
    entry::<create::Create>(),
    entry::<apply::Apply>(),
    entry::<delete::Delete>(),
    entry::<run::Run>(),
    entry::<expose::Expose>(),
    entry::<set::Set>(),
    entry::<scale::Scale>(),
    entry::<rollout::Rollout>(),
    entry::<label::Label>(),
    entry::<label::Annotate>(),
    entry::<patch::Patch>(),
    entry::<logs::Logs>(),
    entry::<exec::Exec>(),
    entry::<attach::Attach>(),
    entry::<debug::Debug>(),
    entry::<port_forward::PortForward>(),
    entry::<cp::Cp>(),
    entry::<wait::Wait>(),
    entry::<explain::Explain>(),
    entry::<api_resources::ApiResources>(),
    entry::<api_resources::ApiVersions>(),
    entry::<auth::Auth>(),
    entry::<certificate::Certificate>(),
    entry::<cluster_info::ClusterInfo>(),
    entry::<cordon::Cordon>(),
    entry::<cordon::Uncordon>(),
    entry::<drain::Drain>(),
    entry::<taint::Taints>(),
    entry::<config::Config>(),
    entry::<version::Version>(),
    entry::<top::Top>(),
    entry::<unavailable::Edit>(),
];

/// The whole command line.
fn command() -> Command {
    let root = Command::new("kubectl")
        .about("Controls the cluster")
        .subcommand_required(true)
        // The last of a flag counts, as in kubectl.
        .args_override_self(true)
        .arg_required_else_help(true)
        .disable_version_flag(true);
    let root = <flags::Global as clap::Args>::augment_args(root);
    VERBS.iter().fold(root, |root, verb| root.subcommand(verb.command()))
}

/// Runs one command. `args` are the words after `kubectl`; the result is the exit code.
pub async fn main(args: Vec<OsString>) -> i32 {
    // Fails only when a provider is installed already, which is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    let matches = match command().try_get_matches_from(std::iter::once(OsString::from("kubectl")).chain(args)) {
        Ok(matches) => matches,
        Err(error) => {
            // A closed standard output leaves nobody to tell.
            let _ = error.print();
            return i32::from(!matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion));
        }
    };
    let global = match flags::Global::from_arg_matches(&matches) {
        Ok(global) => global,
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    let Some((name, matches)) = matches.subcommand() else { return 1 };
    let verb = VERBS.iter().find(|verb| verb.name == name).expect("clap knows the verbs of the table only");
    let session = Session::new(global);
    let code = match verb.run(&session, matches).await {
        Ok(code) => code,
        Err(Error::Exit(code)) => code,
        Err(error) if error.is_broken_pipe() => 0,
        Err(error) => {
            eprintln!("{}", error.to_string().trim_end());
            1
        }
    };
    session.flush();
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
        let mut names: Vec<_> = VERBS.iter().map(|verb| verb.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VERBS.len());
    }

    #[test]
    fn words_are_read_as_kubectl_reads_them() {
        for (line, verb) in [
            ("-n kube-system get pods -o wide --show-labels -A", "get"),
            ("-n x get pods -n y -o json -o yaml", "get"),
            ("get pods,svc -n x -w -l a=b --sort-by=.metadata.name", "get"),
            ("apply -f a.yaml -f - -R --dry-run=server --server-side", "apply"),
            ("apply -f a.yaml --dry-run=client -o yaml", "apply"),
            ("exec -it pod -c x -- sh -c 'x'", "exec"),
            ("logs -f pod -c x -p --tail=5 --since 5m --timestamps", "logs"),
            ("create secret generic x --from-literal=a=b", "create"),
            ("rollout status deploy/x --timeout=5s", "rollout"),
            ("rollout undo deploy x --to-revision=2", "rollout"),
            ("set image deploy/x a=b", "set"),
            ("config set-context --current --namespace=x", "config"),
            ("delete pod x --grace-period=0 --force --wait=false", "delete"),
            ("scale --replicas=3 deploy/x", "scale"),
            ("wait --for=condition=Ready pod/x --timeout=-1s", "wait"),
            ("auth can-i get pods --subresource=log", "auth"),
            ("version --client -o json", "version"),
            ("debug p --image=x --target=y -it -c d -- sh -c z", "debug"),
            ("run x --image=y --restart=Never -- sleep 5", "run"),
            ("label pods x a=b c- --overwrite", "label"),
            ("patch deploy x -p {} --type=merge", "patch"),
            ("certificate approve a b -f x.yaml --force", "certificate"),
            ("cordon -l a=b --dry-run=server", "cordon"),
            ("uncordon a b", "uncordon"),
            ("drain a --force --ignore-daemonsets --delete-emptydir-data --grace-period=-1 --timeout=5s --pod-selector=a!=b", "drain"),
            ("drain a --disable-eviction --dry-run --chunk-size=10 --skip-wait-for-delete-timeout=1", "drain"),
            ("taint nodes a b=c:NoSchedule d- --overwrite", "taint"),
            ("-v 6 --context=a --cluster b --user c cluster-info", "cluster-info"),
        ] {
            let words = std::iter::once("kubectl").chain(line.split(' '));
            let matches = command().try_get_matches_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(matches.subcommand_name(), Some(verb), "{line}");
            let entry = VERBS.iter().find(|entry| entry.name == verb).unwrap();
            entry.check(matches.subcommand_matches(verb).unwrap()).unwrap();
        }
        for line in ["get --nonsense", "nonsense", "scale deploy/x --replicas=many"] {
            let words = std::iter::once("kubectl").chain(line.split(' '));
            assert!(command().try_get_matches_from(words).is_err(), "{line}");
        }
    }
}
