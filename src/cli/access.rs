//! The options that say how to get at the cluster: wherever the launcher talks to one.

use std::path::PathBuf;

use clap::Args;

use super::{ACCESS, AgentUrl, CLUSTER};

/// Who the launcher is to masters and agents, whom it trusts, and where agents are.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct AccessOptions {
    /// Where agents serve the task's output, if not at the address they offer; {host}, {ip}, {port} and {id} stand for
    /// what each says of itself
    #[arg(long, value_name = "URL", help_heading = CLUSTER)]
    pub agent_url: Option<AgentUrl>,

    /// Who the framework is to the master
    #[arg(long, value_name = "NAME", env = "MESOS_PRINCIPAL", hide_env_values = true, help_heading = ACCESS)]
    pub principal: Option<String>,

    /// File with the principal's secret; without --principal, with both in one line or in JSON
    #[arg(long, value_name = "FILE", env = "MESOS_SECRET_FILE", hide_env_values = true, help_heading = ACCESS)]
    pub secret_file: Option<PathBuf>,

    /// Who the launcher is to agents [default: as to the master]
    #[arg(long, value_name = "NAME", help_heading = ACCESS)]
    pub agent_principal: Option<String>,

    /// File as for --secret-file, for agents
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub agent_secret_file: Option<PathBuf>,

    /// Certificates of the authorities to trust for https, in PEM form [default: those of the system]
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub cacert: Option<PathBuf>,

    /// Client certificate for https, in PEM form
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub cert: Option<PathBuf>,

    /// Key of the client certificate, in PEM form [default: in the same file]
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = ACCESS)]
    pub key: Option<PathBuf>,
}
