//! What a person can do about a master or an agent that refuses: the options to give or to look at.

use proto::http::{Shown, TlsFault};

/// Who refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Master,
    Agent,
}

/// After a 401.
pub(crate) fn unauthorized(peer: Peer, shown: &Shown) -> &'static str {
    match (peer, shown) {
        (_, Shown::Token) => "the cluster belongs to another launcher",
        (Peer::Master, Shown::Nothing) => "give them with --principal and --secret-file",
        (Peer::Master, Shown::Principal(_)) => "check --principal and --secret-file",
        (Peer::Agent, Shown::Nothing) => "give them with --agent-principal and --agent-secret-file",
        (Peer::Agent, Shown::Principal(_)) => {
            "check --agent-principal and --agent-secret-file, which without them are those of the master"
        }
    }
}

/// After a 403.
pub(crate) fn forbidden() -> &'static str {
    "ask the cluster's operator for the right"
}

/// When there is no TLS connection; `None`: nothing that is known to help.
pub(crate) fn tls(peer: Peer, fault: &TlsFault) -> Option<&'static str> {
    Some(match (fault, peer) {
        (TlsFault::NoAuthorities, _) => {
            "install ca-certificates, or name the certificate of the server's authority with --cacert"
        }
        (TlsFault::Expired, _) => "its operator has to renew it",
        (TlsFault::NotYetValid, _) => "check the clock of this machine",
        (TlsFault::OtherHost { .. }, Peer::Master) => "name the master as its certificate does",
        (TlsFault::OtherHost { .. }, Peer::Agent) => "name agents as their certificates do, with --agent-url",
        (TlsFault::UnknownAuthority, _) => "name the authority's certificate with --cacert",
        (TlsFault::ClientCertificateWanted, _) => "give one with --cert and --key",
        (TlsFault::ClientCertificateRefused, _) => {
            "check that --cert is still valid and of an authority that it trusts"
        }
        (TlsFault::NotTls | TlsFault::BrokenOff, Peer::Master) => "try http:// in place of https://",
        (TlsFault::NotTls | TlsFault::BrokenOff, Peer::Agent) => "try --agent-url=http://{host}:{port}",
        (TlsFault::OnlyTls, Peer::Master) => "try https:// in place of http://",
        (TlsFault::OnlyTls, Peer::Agent) => "try --agent-url=https://{host}:{port}",
        (TlsFault::Other(_), _) => return None,
    })
}
