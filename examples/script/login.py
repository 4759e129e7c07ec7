#!/usr/bin/env python3
"""Looks people up in members.json beside this file. Needs Python alone."""

import hashlib
import hmac
import json
import os
import pathlib

# Nobody's entry, so that an unknown name takes as long as a wrong password.
NOBODY = {"salt": "00" * 8, "scrypt": "00" * 32}

username = os.environb[b"USERNAME"].decode()
password = os.environb[b"PASSWORD"]

members = json.loads(pathlib.Path(__file__).with_name("members.json").read_text("utf-8"))
member = members.get(username)
entry = member or NOBODY
computed = hashlib.scrypt(password, salt=bytes.fromhex(entry["salt"]), n=16384, r=8, p=1, dklen=32)

# compare_digest takes the same time whether the first byte differs or the last.
if hmac.compare_digest(computed, bytes.fromhex(entry["scrypt"])) and member is not None:
    print(json.dumps({"id": member["id"], "name": member["name"], "username": username}))
else:
    print(json.dumps({"message": "This is not a member, or not the password."}))
