//! Flags of `orch token`: what lets machines join. Named as kubeadm's.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Flags of `orch token`.
#[derive(Args, Debug)]
pub struct TokenArgs {
    /// The administrator's kubeconfig
    #[arg(long, global = true, env = "ORCH_WRITE_KUBECONFIG", default_value = "/etc/orch/orch.yaml", value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What `orch token` does.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print it
    Create {
        /// How long it is good; 0: until it is deleted
        #[arg(long, default_value = "24h0m0s", value_name = "DURATION")]
        ttl: String,
        /// What it is for: authentication (to join), signing (of the cluster's info)
        #[arg(long, value_delimiter = ',', default_value = "authentication,signing", value_name = "USAGES")]
        usages: Vec<String>,
        /// Groups of its bearer, all of which begin with system:bootstrappers:
        #[arg(long, value_delimiter = ',', default_value = "system:bootstrappers:kubeadm:default-node-token", value_name = "GROUPS")]
        groups: Vec<String>,
        /// What people should know of it
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Print the whole command that another machine runs
        #[arg(long)]
        print_join_command: bool,
    },
    /// List tokens, without their secrets
    List,
    /// Delete tokens
    Delete {
        /// IDs, or whole tokens
        #[arg(required = true, value_name = "TOKEN")]
        tokens: Vec<String>,
    },
}
