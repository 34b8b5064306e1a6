"""An Azure hub put together: queues of Service Bus, rows in Table storage, large values in Blob storage."""

from durabletask_azure.adapters.azure.azure_hub import AzureHub

__all__ = ["AzureHub"]
