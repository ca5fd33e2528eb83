//! `--dry-run`: what would be launched, and where it could run, without launching it.
//!
//! The task goes to stdout as the JSON of Mesos' `TaskInfo`, fit for `--task`. No framework is subscribed: what agents have is
//! read from the master's state, so the answer is about now, and about everything that is free, whatever the role's share.

use std::io::{self, Write};

use std::time::Duration;

use proto::http::Client;

use crate::job::Job;
use crate::local::{self, Cluster};
use crate::master::{self, AddressError, MasterAddress, chain};
use crate::scheduler::{Match, Survey};

/// The agents of a cluster that just began join at once, but not before it answers.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// Where the task could run: one line for people.
///
/// # Errors
/// The master cannot be asked; the text says why.
pub async fn places(job: &Job) -> Result<String, String> {
    let survey = match job.master.parse().map_err(|error: AddressError| chain(&error))? {
        MasterAddress::Masters(masters) => {
            let client = Client::new(job.access.to_master()).map_err(|error| chain(&error))?;
            master::survey_any(&client, &masters).await?
        }
        MasterAddress::Local { agents } => {
            let access = local::Access::random_token();
            let client = Client::new(access.client_options()).map_err(|error| chain(&error))?;
            let options = local::Options { agents, access, ..local::Options::default() };
            let cluster = Cluster::start(options).await.map_err(|error| chain(&error))?;
            let survey = of_cluster(&client, &cluster, agents).await;
            cluster.shutdown().await.map_err(|error| chain(&error))?;
            survey?
        }
    };
    Ok(line(&survey.matching(&job.task.info.resources, &job.task.terms)))
}

async fn of_cluster(client: &Client, cluster: &Cluster, agents: u32) -> Result<Survey, String> {
    let address =
        format!("http://{}/", cluster.address()).parse().map_err(|error: url::ParseError| error.to_string())?;
    let all = async {
        loop {
            let survey = master::survey(client, &address).await?;
            if survey.agents.len() >= agents as usize {
                return Ok(survey);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(JOIN_LIMIT, all)
        .await
        .map_err(|_| "the agents of the embedded cluster do not join".to_owned())?
}

fn line(found: &Match) -> String {
    let Match { agents, hostnames, reasons } = found;
    let others = reasons.iter().map(|reason| format!("; {reason}")).collect::<String>();
    let agents_text = if *agents == 1 { "1 agent".to_owned() } else { format!("{agents} agents") };
    match hostnames.as_slice() {
        [] if *agents == 0 => "the task could run nowhere: the master has no agents".to_owned(),
        [] => format!("the task could run on none of {agents_text} now{others}"),
        some => format!("the task could run on {} of {agents_text} now ({}){others}", some.len(), some.join(", ")),
    }
}

/// The task as JSON. The agent is not known yet, and its id is left out.
///
/// # Errors
/// It cannot be written.
pub fn print_task(job: &Job, mut out: impl Write) -> io::Result<()> {
    let mut task = proto::json::to_value("mesos.TaskInfo", &job.task.info).map_err(io::Error::other)?;
    if let Some(fields) = task.as_object_mut() {
        fields.remove("agent_id");
    }
    serde_json::to_writer_pretty(&mut out, &task)?;
    out.write_all(b"\n")
}
