//! `orch token`: the bootstrap tokens of a cluster, asked of the running server. Its words are kubeadm's.

use anyhow::{Context, Result, anyhow, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use orch::api::cluster::{self, Cluster};
use orch::api::join_token::{AuthorityHash, JoinToken};
use orch::client::{self, Client, code};
use orch::config::{TokenArgs, TokenCommand};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const USAGES: &[&str] = &["authentication", "signing"];
const GROUP: &str = "system:bootstrappers:";

/// Runs one command.
pub async fn run(args: TokenArgs) -> Result<()> {
    let client = client::from_file(&args.kubeconfig, "orch").await.with_context(|| {
        let file = args.kubeconfig.display();
        format!("tokens are asked of the server: run this on its machine, or give the administrator's kubeconfig (now --kubeconfig {file})")
    })?;
    match args.command {
        TokenCommand::Create { ttl, usages, groups, description, print_join_command } => {
            let wanted = Wanted::read(&ttl, &usages, &groups, description)?;
            let token = JoinToken::generate(authority(&client, &args.kubeconfig).await?).map_err(|_| anyhow!("no random bytes"))?;
            let secret = wanted.secret(&token, Timestamp::now())?;
            secrets(&client).create(&PostParams::default(), &secret).await.context("making the token")?;
            if print_join_command {
                println!("orch agent --join {} --token {}", server(&client).await?, token.reveal());
            } else {
                println!("{}", token.reveal());
            }
        }
        TokenCommand::List => {
            let list = secrets(&client).list(&ListParams::default().fields(&format!("type={TYPE}"))).await.context("listing tokens")?;
            print!("{}", table(&list.items, Timestamp::now()));
        }
        TokenCommand::Delete { tokens } => {
            for token in tokens {
                let id = id_of(&token)?;
                match secrets(&client).delete(&format!("bootstrap-token-{id}"), &DeleteParams::default()).await {
                    Ok(_) => println!("token {id} deleted"),
                    Err(error) if code(&error) == Some(404) => bail!("there is no token {id}; `orch token list` shows which there are"),
                    Err(error) => return Err(error).context(format!("deleting token {id}")),
                }
            }
        }
    }
    Ok(())
}

fn secrets(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), cluster::NAMESPACE)
}

/// Where machines that join find the API.
async fn server(client: &Client) -> Result<String> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), cluster::NAMESPACE);
    let map = api.get(cluster::NAME).await.context("reading the cluster's settings")?;
    Ok(Cluster::read(&map.data.unwrap_or_default()).map_err(anyhow::Error::msg)?.server)
}

/// The authority that the kubeconfig trusts, which is the cluster's.
async fn authority(client: &Client, kubeconfig: &std::path::Path) -> Result<AuthorityHash> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), cluster::NAMESPACE);
    let map =
        api.get("kube-root-ca.crt").await.with_context(|| format!("reading the cluster's authority with {}", kubeconfig.display()))?;
    let pem = map.data.and_then(|mut data| data.remove("ca.crt")).context("kube-system/kube-root-ca.crt has no ca.crt")?;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| anyhow!("kube-system/kube-root-ca.crt: {error}"))?;
    AuthorityHash::of(&der).context("kube-system/kube-root-ca.crt holds no certificate")
}

/// A token's public half.
fn id_of(token: &str) -> Result<String> {
    let rest = token.rsplit("::").next().unwrap_or(token);
    let id = rest.split('.').next().unwrap_or(rest);
    let legal = id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    match legal {
        true => Ok(id.into()),
        false => bail!("{id:?} is no token's ID: those are 6 lower-case letters and digits, as `orch token list` shows them"),
    }
}

/// What a new token is to be.
struct Wanted {
    ttl: Option<SignedDuration>,
    usages: Vec<String>,
    groups: Vec<String>,
    description: Option<String>,
}

impl Wanted {
    fn read(ttl: &str, usages: &[String], groups: &[String], description: Option<String>) -> Result<Wanted> {
        let life = if ttl == "0" {
            std::time::Duration::ZERO
        } else {
            orch::api::duration::go_duration(ttl).map_err(|why| anyhow!("--ttl: {why}; use such as 2h or 30m, or 0 for ever"))?
        };
        if let Some(usage) = usages.iter().find(|usage| !USAGES.contains(&usage.as_str())) {
            bail!("--usages: {usage:?} must be one of {}", USAGES.join(", "));
        }
        if let Some(group) = groups.iter().find(|group| !group.starts_with(GROUP) || group.len() == GROUP.len()) {
            bail!("--groups: {group:?} does not begin with {GROUP}");
        }
        let ttl = (!life.is_zero()).then(|| SignedDuration::try_from(life)).transpose().context("--ttl")?;
        Ok(Wanted { ttl, usages: usages.to_vec(), groups: groups.to_vec(), description })
    }

    fn secret(&self, token: &JoinToken, now: Timestamp) -> Result<Secret> {
        let mut data = vec![
            ("token-id".to_owned(), token.id.clone()),
            ("token-secret".into(), token.secret().into()),
            ("auth-extra-groups".into(), self.groups.join(",")),
        ];
        data.extend(self.usages.iter().map(|usage| (format!("usage-bootstrap-{usage}"), "true".into())));
        data.extend(self.description.iter().map(|text| ("description".into(), text.clone())));
        if let Some(ttl) = self.ttl {
            let end = now.checked_add(ttl).context("--ttl")?;
            data.push(("expiration".into(), end.round(jiff::Unit::Second)?.to_string()));
        }
        let metadata = ObjectMeta {
            name: Some(format!("bootstrap-token-{}", token.id)),
            namespace: Some(cluster::NAMESPACE.into()),
            ..ObjectMeta::default()
        };
        let data = data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect();
        Ok(Secret { metadata, type_: Some(TYPE.into()), data: Some(data), ..Secret::default() })
    }
}

/// The tokens as people read them.
fn table(secrets: &[Secret], now: Timestamp) -> String {
    let mut rows = vec![["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"].map(String::from)];
    for secret in secrets {
        let text = |key: &str| {
            let value = secret.data.as_ref().and_then(|data| data.get(key)).map(|value| String::from_utf8_lossy(&value.0).into_owned());
            value.unwrap_or_default()
        };
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        let usages: Vec<&str> = USAGES.iter().filter(|usage| text(&format!("usage-bootstrap-{usage}")) == "true").copied().collect();
        let expires = text("expiration");
        let left = match expires.parse::<Timestamp>() {
            Ok(end) if end <= now => "<expired>".to_owned(),
            Ok(end) => shown(end.duration_since(now)),
            Err(_) if expires.is_empty() => "<forever>".into(),
            Err(_) => "<invalid>".into(),
        };
        let [description, groups] = ["description", "auth-extra-groups"].map(|key| or(text(key), "<none>"));
        rows.push([text("token-id"), left, or(expires, "<never>"), or(usages.join(","), "<none>"), description, groups]);
    }
    let widths: Vec<usize> = (0..6).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// A duration in its largest unit.
fn shown(left: SignedDuration) -> String {
    match left.as_secs() {
        s if s >= 48 * 3600 => format!("{}d", s / 86_400),
        s if s >= 3600 => format!("{}h", s / 3600),
        s if s >= 60 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["a".into()]).unwrap().self_signed(&key).unwrap();
        JoinToken::of(AuthorityHash::of(certificate.der()).unwrap(), "abcdef", "0123456789abcdef").unwrap()
    }

    #[test]
    fn what_is_made_is_listed() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let wanted =
            |ttl: &str| Wanted::read(ttl, &["authentication".into()], &["system:bootstrappers:a".into()], Some("text".into())).unwrap();
        let made = ["24h0m0s", "0"].map(|ttl| wanted(ttl).secret(&token(), now).unwrap());
        let shown = table(&made, now);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["abcdef", "24h", "2026-01-02T00:00:00Z", "authentication", "text", "system:bootstrappers:a"]);
        assert_eq!(lines[2][1..3], ["<forever>", "<never>"]);
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
        assert!(table(&made, "2026-02-01T00:00:00Z".parse().unwrap()).contains("<expired>"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let read =
            |ttl: &str, usage: &str, group: &str| Wanted::read(ttl, &[usage.into()], &[group.into()], None).err().unwrap().to_string();
        assert!(read("5", "signing", "system:bootstrappers:a").contains("--ttl"));
        assert!(read("5h", "x", "system:bootstrappers:a").contains("--usages"));
        assert!(read("5h", "signing", "system:masters").contains("--groups"));
        assert_eq!(id_of(&token().reveal()).unwrap(), "abcdef");
        assert_eq!(id_of("abcdef").unwrap(), "abcdef");
        assert!(id_of("Abcdef").unwrap_err().to_string().contains("6 lower-case"));
    }
}
