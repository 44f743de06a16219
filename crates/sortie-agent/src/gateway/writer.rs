//! Names on their way into the kernel: the agent is asked for all that wait at once.

use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sortie_api::workload::WorkloadId;
use sortie_dns::{Answered, Bounds, DnsName, Learn, Memory, NotLearned};
use tokio::sync::{mpsc, oneshot};

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
    client: Client,
    /// What the agent has put there, to be told to the next one.
    learned: Arc<Mutex<Memory>>,
}

impl Writer {
    /// Starts the task that asks; it ends with the last copy of this.
    pub(super) fn start(client: Client) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(ask(client.clone(), waiting));
        Self {
            queue,
            client,
            learned: Arc::new(Mutex::new(Memory::new(Bounds::LEARNED))),
        }
    }

    /// Tells an agent all that a former one has put into the kernel.
    pub(super) async fn replay(&self) -> Result<(), ClientError> {
        let mut names = self.all();
        while names.len() > TOGETHER {
            let rest = names.split_off(TOGETHER);
            self.client.learned(&mem::replace(&mut names, rest)).await?;
        }
        self.client.names(&names).await?;
        Ok(())
    }

    /// A workload has ended.
    pub(super) fn forget(&self, workload: &WorkloadId) {
        self.memory().forget(workload);
    }

    /// Each workload's least recently told names first.
    fn all(&self) -> Vec<Learned> {
        let memory = self.memory();
        let all = memory.all().flat_map(|(workload, history)| {
            history.all().into_iter().map(|remembered| Learned {
                workload: workload.clone(),
                name: remembered.name.as_str().to_owned(),
                addresses: remembered.addresses.iter().map(|(it, _)| *it).collect(),
            })
        });
        all.collect()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // What a panic left is whole: each holder does one thing.
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
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
        let told: Vec<(IpAddr, Answered)> = told.iter().map(as_told).collect();
        self.memory()
            .of_mut(workload)
            .note(name, &told, Instant::now());
        Ok(told.into_iter().map(|(_, answered)| answered).collect())
    }
}

fn as_told(told: &Told) -> (IpAddr, Answered) {
    let answered = match told.answered {
        None => Answered::LeftOut,
        Some(same) if same == told.address => Answered::Kept,
        Some(other) => Answered::Replaced(other),
    };
    (told.address, answered)
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
