//! `vm attach|ls|detach`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mooring_cli::client::escape;
use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::{TenantId, VmId};
use mooring_protocol::api::{Channel, Vm, VmAttach};

/// VMs.
#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// Tell the gateway by which channel a VM is known, and listen there
    #[command(
        after_help = "Examples:\n  mooring-gateway vm attach --tenant acme vm1 --hybrid /run/vm1/vsock.sock\n  \
                            mooring-gateway vm attach --tenant acme vm2 --cid 42"
    )]
    Attach {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Its name
        vm: VmId,
        #[command(flatten)]
        channel: ChannelArgs,
    },
    /// List VMs
    Ls,
    /// Forget a VM: its sessions end and its channel closes
    Detach {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Which
        vm: VmId,
    },
}

/// Exactly one channel.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ChannelArgs {
    /// Hybrid vsock (Firecracker, Cloud Hypervisor, QEMU with vhost-device-vsock): guest port P arrives at PATH_P
    #[arg(long, value_name = "PATH")]
    hybrid: Option<PathBuf>,
    /// Kernel vsock: the VM's context id
    #[arg(long, value_name = "CID")]
    cid: Option<u32>,
    /// A unix socket of the VM's own
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// TCP with TLS: the VM shows a token
    #[arg(long)]
    tcp: bool,
}

impl ChannelArgs {
    fn channel(self) -> Result<Channel, ApiError> {
        let text = |path: PathBuf| {
            let absolute = std::path::absolute(&path)
                .map_err(|e| ApiError::Local(format!("{}: {e}", path.display())))?;
            absolute
                .into_os_string()
                .into_string()
                .map_err(|p| ApiError::Local(format!("{p:?} is not UTF-8")))
        };
        match (self.hybrid, self.cid, self.unix) {
            (Some(path), _, _) => Ok(Channel::Hybrid(text(path)?)),
            (_, Some(cid), _) => Ok(Channel::Cid(cid)),
            (_, _, Some(path)) => Ok(Channel::Unix(text(path)?)),
            _ => Ok(Channel::Tcp),
        }
    }
}

fn describe(channel: &Channel) -> String {
    match channel {
        Channel::Hybrid(path) => format!("hybrid {path}"),
        Channel::Cid(cid) => format!("cid {cid}"),
        Channel::Unix(path) => format!("unix {path}"),
        Channel::Tcp => "tcp".to_owned(),
    }
}

/// Runs a VM command.
pub async fn run(api: &Api, form: Form, command: VmCommand) -> Result<(), ApiError> {
    match command {
        VmCommand::Attach { tenant, vm, channel } => {
            let body = VmAttach { tenant, vm, channel: channel.channel()? };
            let made: Vm = api.post("/v1/vms", &body).await?;
            form.print(&made, |v| {
                format!(
                    "attached {}/{} by {} (generation {})",
                    v.tenant,
                    v.vm,
                    describe(&v.channel),
                    v.generation
                )
            })
        }
        VmCommand::Ls => {
            let vms: Vec<Vm> = api.get("/v1/vms").await?;
            form.print(&vms, |all| {
                table(
                    ["tenant", "vm", "channel", "gateway", "generation", "sessions"],
                    all.iter().map(|v| {
                        [
                            v.tenant.to_string(),
                            v.vm.to_string(),
                            describe(&v.channel),
                            v.gateway.clone().unwrap_or_default(),
                            v.generation.to_string(),
                            v.sessions.to_string(),
                        ]
                    }),
                )
            })
        }
        VmCommand::Detach { tenant, vm } => {
            let path = format!("/v1/vms/{}?tenant={}", escape(vm.as_str()), escape(tenant.as_str()));
            api.delete::<()>(&path).await?;
            form.print(&vm, |v| format!("detached {v}"))
        }
    }
}
