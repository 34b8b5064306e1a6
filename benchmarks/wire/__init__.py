"""W1 to W4 over the wire: the hub on Azurite and the Service Bus emulator, beside the bare SDKs doing the same."""
