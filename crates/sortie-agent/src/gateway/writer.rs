//! Names on their way into the kernel: the agent is asked for all that wait at once.

use std::net::IpAddr;
use std::sync::Arc;

use sortie_api::workload::WorkloadId;
use sortie_dns::{Answered, DnsName, Learn, NotLearned};
use tokio::sync::{mpsc, oneshot};

use super::told::Told as Known;
use crate::api::{Learned, Told};
use crate::client::{Client, ClientError};

/// Names that wait; more wait before they get in.
const QUEUE: usize = 4_096;
/// Names of one request.
const TOGETHER: usize = 256;

type Answer = Result<Vec<Told>, NotLearned>;

/// Asks the agent to put names into the kernel.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<(Learned, oneshot::Sender<Answer>)>,
    /// What has been told, for the gateway.
    known: Arc<Known>,
}

impl Writer {
    /// Starts the task that asks; it ends with the last copy of this.
    pub(super) fn start(client: Client, known: Arc<Known>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(ask(client, waiting));
        Self { queue, known }
    }
}

impl Learn for Writer {
    async fn learned(
        &self,
        workload: &WorkloadId,
        name: &DnsName,
        addresses: &[IpAddr],
    ) -> Result<Vec<Answered>, NotLearned> {
        let ended = || NotLearned::Away("the gateway ends".to_owned());
        let asked = Learned {
            workload: workload.clone(),
            name: name.as_str().to_owned(),
            addresses: addresses.to_vec(),
        };
        let (answer, answered) = oneshot::channel();
        let queued = self.queue.send((asked, answer)).await;
        queued.map_err(|_| ended())?;
        let told = answered.await.map_err(|_| ended())??;
        self.known.note(workload, name.as_str(), &told);
        Ok(told.iter().map(as_told).collect())
    }
}

fn as_told(told: &Told) -> Answered {
    match told.answered {
        None => Answered::LeftOut,
        Some(same) if same == told.address => Answered::Kept,
        Some(other) => Answered::Replaced(other),
    }
}

/// One request after the other, each for all that wait.
async fn ask(client: Client, mut waiting: mpsc::Receiver<(Learned, oneshot::Sender<Answer>)>) {
    let mut together = Vec::new();
    while waiting.recv_many(&mut together, TOGETHER).await > 0 {
        let (names, answers): (Vec<Learned>, Vec<_>) = together.drain(..).unzip();
        let told = match client.learned(&names).await {
            Ok(told) if told.len() == names.len() => Ok(told),
            Ok(told) => Err(NotLearned::Refused(format!(
                "it answered for {} of {} names",
                told.len(),
                names.len()
            ))),
            Err(ClientError::Refused(why)) => Err(NotLearned::Refused(why)),
            Err(error) => Err(NotLearned::Away(error.to_string())),
        };
        match told {
            Ok(told) => {
                for (answer, told) in answers.into_iter().zip(told) {
                    // Who asked may have given up.
                    let _ = answer.send(Ok(told));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}
