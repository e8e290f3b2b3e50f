-- Limits how often wrong secrets are looked at. Off, until somebody tries many (gateway/guesses.py says so).
-- Counted for each address and each name that is claimed, so that nobody who tries locks out another address or another
-- client; and what was found right while this is on passes whatever others try. Beyond MOST wrong ones in a WINDOW one a
-- second is still looked at, all else is answered 429. It admits nobody: the next filter checks the secret.
-- Each worker of Envoy counts by itself. What is kept of a secret is a number that does not give it back.

local MOST, WINDOW, LARGEST = 10, 60, 20000
local wrong, right, kept = {}, {}, 0

local function number(text)
  local one, other = 7, 11
  for i = 1, #text do
    local byte = text:byte(i)
    one, other = (one * 31 + byte) % 2147483647, (other * 131 + byte) % 2147483629
  end
  return one * 2147483648 + other
end

local DIGITS, LONGEST = {}, 70
for at = 1, 64 do
  DIGITS[("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):byte(at)] = at - 1
end

-- The name that is claimed: what comes before the colon, and nothing of the secret behind it. Ids of ours are shorter.
local function name_of(value)
  local found, bits, held = {}, 0, 0
  for at = 7, math.min(#value, 106) do
    local digit = DIGITS[value:byte(at)]
    if digit == nil then return "?" end
    held, bits = held * 64 + digit, bits + 6
    if bits >= 8 then
      bits = bits - 8
      local byte = math.floor(held / 2 ^ bits)
      held = held - byte * 2 ^ bits
      if byte == 58 then return table.concat(found) end
      if #found == LONGEST then return "?" end
      found[#found + 1] = string.char(byte)
    end
  end
  return "?"
end

-- Who tries: the address without its port, and the name.
local function whom(handle)
  local value = handle:headers():get("authorization")
  if value == nil or #value > 1024 then return nil end
  local address = handle:streamInfo():downstreamRemoteAddress():gsub(":%d+$", "")
  return address .. " " .. name_of(value), number(value)
end

local function is_too_many(key, tried, now)
  local one = wrong[key]
  if one == nil then return false end
  if now - one.since >= WINDOW then
    wrong[key], kept = nil, kept - 1
    return false
  end
  if one.count < MOST or right[key] == tried then return false end
  if now > one.looked then
    one.looked = now
    return false
  end
  return true
end

local function checked(handle)
  local key, tried = whom(handle)
  if key == nil then return false end
  local about = handle:streamInfo():dynamicMetadata()
  about:set("tulle.guard", "key", key)
  about:set("tulle.guard", "tried", tried)
  return is_too_many(key, tried, os.time())
end

local function noted(handle)
  local about = handle:streamInfo():dynamicMetadata()
  local mine, found = about:get("tulle.guard"), about:get("tulle")
  if mine == nil or mine["key"] == nil then return end
  local key = mine["key"]
  if kept > LARGEST then wrong, right, kept = {}, {}, 0 end
  if found ~= nil and found["client"] ~= nil then
    right[key] = mine["tried"]
  elseif handle:headers():get(":status") == "401" then
    local now = os.time()
    if wrong[key] == nil then wrong[key], kept = {since = now, count = 0, looked = now}, kept + 1 end
    wrong[key].count = wrong[key].count + 1
  end
end

function envoy_on_request(handle)
  local fine, too_many = pcall(checked, handle)
  if not fine or too_many then
    handle:respond({[":status"] = "429"}, "too many wrong secrets")
  end
end

function envoy_on_response(handle)
  pcall(noted, handle)
end
