//! `orch image`: the images of this node, also while its agent runs.

use anyhow::{Context, Result, bail};
use orch::config::{ImageArgs, ImageCommand};
use orch::runtime::image::{Image, Images, Registries};

/// Runs one command.
pub async fn run(args: ImageArgs) -> Result<()> {
    let images = Images::open(&args.data_dir, Registries::read(&args.registries)?)?;
    match args.command {
        ImageCommand::Import { files, name } => {
            for file in files {
                for reference in images.import(&file, name.as_deref()).await? {
                    println!("imported {reference}");
                }
            }
        }
        ImageCommand::SelfImage { name } => {
            let executable = std::env::current_exe().context("finding this executable")?;
            println!("imported {}", images.import_executable(&executable, &name).await?);
        }
        ImageCommand::Pull { images: wanted } => {
            for reference in wanted {
                eprintln!("pulling {reference}");
                let image = images.pull(&reference, &[]).await?;
                println!("{} {}", image.repo_tags.first().or(image.repo_digests.first()).unwrap_or(&reference), image.id);
            }
        }
        ImageCommand::Rm { images: wanted } => {
            for reference in wanted {
                let gone = images.remove(&reference).await?;
                if gone.is_empty() {
                    bail!("no such image: {reference}; `orch image ls` lists them");
                }
                gone.iter().for_each(|reference| println!("removed {reference}"));
            }
        }
        ImageCommand::Ls => list(&images.list().await?),
    }
    Ok(())
}

fn list(images: &[Image]) {
    let mut rows = vec![["IMAGE".to_string(), "ID".into(), "SIZE".into()]];
    for image in images {
        let id = image.id.trim_start_matches("sha256:").get(..12).unwrap_or_default();
        let size = format!("{:.1} MB", image.size as f64 / 1e6);
        let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
        rows.extend(names.iter().map(|name| [name.clone(), id.into(), size.clone()]));
    }
    let width = rows.iter().map(|[name, ..]| name.len()).max().unwrap_or_default();
    for [name, id, size] in rows {
        println!("{name:width$}   {id:12}   {size}");
    }
}
