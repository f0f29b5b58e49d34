//! `orch`: parses its arguments, puts the parts together, runs them.
//!
//! The only place where server and agent meet, and the only user of anyhow.

mod check_config;
mod hello;
mod image;
mod node;
mod renumbered;
mod reset;
mod secrets_encrypt;
mod standalone;
mod token;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use orch::config::{Cli, Command};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Before anything else is set up: a shim holds a pod for years and must stay small.
    if let [_, command, dir] = args.as_slice()
        && command == "shim"
    {
        let code = orch::runtime::shim::main(Path::new(dir));
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("orch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let args = orch::config::with_files(args)?;
    let cli = Cli::parse_from(args);
    // An error means that it was installed already, which is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    match cli.command {
        Command::Server(args) => {
            log("info");
            runtime.block_on(standalone::run(*args))?;
        }
        Command::Agent(args) => {
            log("info");
            runtime.block_on(node::run(*args))?;
        }
        Command::Token(args) => {
            log("error");
            runtime.block_on(token::run(args))?;
        }
        Command::Kubectl { args } => {
            log("error");
            let code = runtime.block_on(orch::kubectl::main(args));
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        Command::Image(args) => {
            log("warn");
            runtime.block_on(image::run(args))?;
        }
        Command::CheckConfig(args) => return Ok(if check_config::run(&args) { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Command::Reset(args) => {
            log("error");
            runtime.block_on(reset::run(args))?;
        }
        Command::SecretsEncrypt(args) => {
            log("error");
            runtime.block_on(secrets_encrypt::run(args))?;
        }
        Command::Hello { listen } => runtime.block_on(hello::serve(listen))?,
        Command::Shim { .. } => anyhow::bail!("a shim takes exactly one argument, its sandbox's directory; it is started by the agent"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Logs to standard error; `ORCH_LOG` chooses what (tracing-subscriber's filter syntax).
fn log(default: &str) {
    let filter = EnvFilter::try_from_env("ORCH_LOG").unwrap_or_else(|_| EnvFilter::new(format!("{default},kube=warn,sled=warn")));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).with_target(false).init();
}
