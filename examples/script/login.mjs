#!/usr/bin/env node
// Looks people up in members.json beside this file. Needs Node.js alone.

import { scryptSync, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";

// Nobody's entry, so that an unknown name takes as long as a wrong password.
const NOBODY = { salt: "00".repeat(8), scrypt: "00".repeat(32) };

const { USERNAME: username, PASSWORD: password } = process.env;

// A map, because every object knows the names "constructor" and "toString".
const members = new Map(Object.entries(JSON.parse(readFileSync(new URL("members.json", import.meta.url), "utf8"))));
const member = members.get(username);
const { salt, scrypt } = member ?? NOBODY;
const computed = scryptSync(password, Buffer.from(salt, "hex"), 32, { N: 16384, r: 8, p: 1 });

// timingSafeEqual takes the same time whether the first byte differs or the last.
const answer = timingSafeEqual(computed, Buffer.from(scrypt, "hex")) && member
  ? { id: member.id, name: member.name, username }
  : { message: "This is not a member, or not the password." };
console.log(JSON.stringify(answer));
