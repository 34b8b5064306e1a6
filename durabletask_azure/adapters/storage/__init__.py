"""What the adapters of one storage account share: how its clients are made, and its errors in this package's terms."""

from durabletask_azure.adapters.storage.connection import Credential, client_options, credential_of
from durabletask_azure.adapters.storage.failures import error_code, translated

__all__ = ["Credential", "client_options", "credential_of", "error_code", "translated"]
