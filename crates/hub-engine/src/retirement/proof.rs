//! The method by which a device erases itself before it is retired, and the receipt that it signs for that.
//! The hub believes no answer that is not signed with a key of this device over the nonce of this call.

use std::time::Duration;

use hub_domain::id::{DeviceId, TwinId};
use hub_domain::method::{MethodCall, MethodResult};
use hub_domain::retirement::{Receipt, RetireRequest, with_nonce};

use crate::Hub;
use crate::clock::random_bytes;
use crate::error::{self, Error, Result};

/// What is known of a device's own erasure; nothing if nobody asked for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// That it did it.
    pub receipt: Option<Receipt>,
    /// Why there is no receipt, if it is retired all the same.
    pub unproven: Option<String>,
}

impl Hub {
    /// Calls the erase method, if one is asked for, and checks the receipt.
    pub(crate) async fn prove_erased(&self, device: &DeviceId, request: &RetireRequest) -> Result<Proof> {
        let id = TwinId::device(device.clone());
        if self.index.get(&id).is_none() {
            return Err(self.retired_or(device, error::not_found(&id)));
        }
        let Some(call) = &request.erase else { return Ok(Proof::default()) };
        match self.receipt(&id, call).await {
            Ok(receipt) => Ok(Proof { receipt: Some(receipt), unproven: None }),
            Err(error) if request.force => Ok(Proof { receipt: None, unproven: Some(error.to_string()) }),
            Err(error) => Err(error),
        }
    }

    async fn receipt(&self, id: &TwinId, call: &MethodCall) -> Result<Receipt> {
        self.ask_to_erase(id, call, call.connect_timeout).await?.1
    }

    /// What a device answers to its erase method, and the receipt in it or why there is none.
    pub(crate) async fn ask_to_erase(
        &self,
        id: &TwinId,
        call: &MethodCall,
        connect_timeout: Duration,
    ) -> Result<(MethodResult, Result<Receipt>)> {
        let nonce: String = random_bytes::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
        let payload = with_nonce(&call.payload, &nonce).map_err(Error::Invalid)?;
        let call = MethodCall { payload, ..call.clone() };
        let answer = self.call(id, &call, connect_timeout).await?;
        if !answer.is_success() {
            let text = format!("the device answered its erase method '{}' with {}", call.name, answer.status);
            return Ok((answer, Err(Error::Conflict(text))));
        }
        let entry = self.index.get(id).ok_or_else(|| error::not_found(id))?;
        let receipt =
            Receipt::check(&answer.payload, &id.device, &nonce, entry.identity.authentication.keys());
        Ok((answer, receipt.map_err(|error| Error::Conflict(error.to_string()))))
    }
}
