//! What the master says about its agents, fetched: see [`Survey`].

use proto::http::{Client, HttpError};
use url::Url;

use super::zookeeper::{Leader, Session};
use super::{MAX_HOPS, Masters, chain, host_port, join, redirected};
use crate::scheduler::Survey;

/// A master with 10,000 agents answers with some 20 MB.
const MAX_BYTES: usize = 64 << 20;

/// Asks whichever master of these leads.
///
/// # Errors
/// One line: what was attempted, on what, why.
pub async fn survey_any(client: &Client, masters: &Masters) -> Result<Survey, String> {
    let addresses = match masters {
        Masters::Listed(masters) => masters.clone(),
        Masters::Elected(ensemble) => {
            let session = Session::open(ensemble).await.map_err(|refusal| refusal.reason)?;
            match session.leader().await.map_err(|refusal| refusal.reason)? {
                (Leader::At(addresses), _) => addresses,
                (Leader::Nobody(reason), _) => return Err(reason),
            }
        }
    };
    let mut reasons = Vec::new();
    for address in addresses {
        match survey(client, &address).await {
            Ok(survey) => return Ok(survey),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join("; "))
}

/// Asks the leading master; `leader` may also be one that leads to it.
///
/// # Errors
/// One line: what was attempted, on what, why.
pub async fn survey(client: &Client, leader: &Url) -> Result<Survey, String> {
    let mut asked = leader.clone();
    for _ in 0..MAX_HOPS {
        match client.get(&join(&asked, "slaves"), MAX_BYTES).await {
            Ok(json) => {
                return Survey::parse(&json).map_err(|error| {
                    format!("cannot read the agents of the master at {}: {error}", host_port(&asked))
                });
            }
            Err(HttpError::Redirect { location: Some(location), .. }) => match redirected(&asked, &location) {
                Some(next) if next != asked => asked = next,
                _ => {
                    return Err(format!(
                        "the master at {} redirects to \"{location}\", which is no other address",
                        host_port(&asked)
                    ));
                }
            },
            Err(error) => {
                return Err(format!(
                    "cannot ask the master at {} for its agents: {}",
                    host_port(&asked),
                    chain(&error)
                ));
            }
        }
    }
    Err(format!("more than {MAX_HOPS} redirects, starting at {}", host_port(leader)))
}
