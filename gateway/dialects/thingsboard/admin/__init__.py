"""ThingsBoard's administration REST, as its Python client and operators' scripts call it.

The contract is `thingsboard-device-api.md`, sections 6, 17 and 18. Every route goes through `Desk`,
which says who calls, whether they may, and in what shape an error is told.
"""
