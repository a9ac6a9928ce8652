//! `chiral completions`: completion scripts for shells.

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;

use crate::{Cli, output};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// For which shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let cli = Cli::command();
    let visible = cli.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut visible =
        Command::new("chiral").args(cli.get_arguments().cloned()).subcommands(visible);
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut visible, "chiral", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
