"""The certificates that a server is run with: each has ports of its own."""

# suffix of the ports -> certificate
VARIANTS = {"": "good", "-self-signed": "self-signed", "-wrong-name": "wrong-name"}
