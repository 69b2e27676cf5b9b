//! `event`: tells all agents of something.

use bytes::Bytes;
use clap::Args;
use serde::Deserialize;

use super::client::Client;
use super::error::Error;
use super::print::Out;
use super::remote::QueryArgs;
use super::target::Target;

#[derive(Args, Debug)]
pub(crate) struct Event {
    /// What it is called.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Only agents whose node's name fits this expression.
    #[arg(long, value_name = "REGEXP")]
    node: Option<String>,

    /// Only agents with a service whose name fits this expression.
    #[arg(long, value_name = "REGEXP")]
    service: Option<String>,

    /// Only agents with a service that has such a tag; needs -service.
    #[arg(long, value_name = "REGEXP")]
    tag: Option<String>,

    /// What it says.
    #[arg(value_name = "PAYLOAD")]
    payload: Option<String>,

    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Deserialize)]
struct Fired {
    #[serde(rename = "ID")]
    id: String,
}

impl Event {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let Some(name) = self.name.as_deref().filter(|name| !name.is_empty()) else {
            return Err(Error::Usage("Event name must be specified".to_owned()));
        };
        let target = Target::at("/v1/event/fire/")
            .name(name)
            .param_if("node", self.node.as_deref())
            .param_if("service", self.service.as_deref())
            .param_if("tag", self.tag.as_deref());
        let payload = Bytes::from(self.payload.unwrap_or_default());
        let fired: Fired = Client::new(&self.query.agent)?.put(&self.query.writing(target), payload).await?.json()?;
        out.line(format_args!("Event ID: {}", fired.id))
    }
}
