//! The options that say where the task's output goes, and in which shape.

use std::path::PathBuf;

use clap::Args;

use super::OUTPUT;

/// Where the task's output goes, and in which shape; without any of them its bytes come out as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct OutputOptions {
    /// Begin each line with the time at which the launcher got it, in UTC
    #[arg(long, help_heading = OUTPUT)]
    pub timestamps: bool,

    /// Begin each line with this text and a tab; {name} and {stream} in it stand for the task's name, and stdout or stderr
    #[arg(long, value_name = "TEXT", help_heading = OUTPUT)]
    pub tag: Option<String>,

    /// Write whole lines only, so that stdout and stderr do not mix within one
    #[arg(long, help_heading = OUTPUT)]
    pub line_buffer: bool,

    /// Leave out the task's stdout
    #[arg(long, help_heading = OUTPUT)]
    pub no_stdout: bool,

    /// Leave out the task's stderr
    #[arg(long, help_heading = OUTPUT)]
    pub no_stderr: bool,

    /// Write the task's output to the files stdout and stderr of this directory, too, byte for byte; they must not be there yet
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub output_dir: Option<PathBuf>,

    /// Keep the lines that Mesos' own executors write into the output before the task does
    #[arg(long, help_heading = OUTPUT)]
    pub raw: bool,
}
