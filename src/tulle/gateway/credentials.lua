-- Makes one form of the credentials out of three: afterwards `authorization` is `Basic base64(id:secret)`.
--   client_id and client_secret headers
--   Bearer <client_id>.<client_secret>
--   Basic base64(<client_id>.<client_secret>:)   the API key as user name, an empty password
-- A secret that ends in a tilde is the second one of its client, which the next filter knows by the id with `~2`.
-- It admits nobody: the next filter checks the secret against its hash. What fails here is removed, so that an
-- error in this script ends as 401, never as a way in.

local digits = {}
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
for i = 1, 64 do digits[alphabet:byte(i)] = i - 1 end

local LONGEST = 512

local function decode(text)
  text = text:gsub("=+$", "")
  if #text > LONGEST then return nil end
  local bytes, bits, held = {}, 0, 0
  for i = 1, #text do
    local digit = digits[text:byte(i)]
    if digit == nil then return nil end
    held, bits = held * 64 + digit, bits + 6
    if bits >= 8 then
      bits = bits - 8
      local unit = 2 ^ bits
      local byte = math.floor(held / unit)
      bytes[#bytes + 1] = string.char(byte)
      held = held - byte * unit
    end
  end
  return table.concat(bytes)
end

-- `<client_id>:<client_secret>`, with the name by which the next filter knows this secret
local function named(id, secret)
  if secret:sub(-1) == "~" then id = id .. "~2" end
  return id .. ":" .. secret
end

-- `<client_id>.<client_secret>` as `<client_id>:<client_secret>`; an id has no dot
local function pair(key)
  if #key > LONGEST or key:find(":", 1, true) then return nil end
  local id, secret = key:match("^([^.]+)%.(.+)$")
  if id == nil then return nil end
  return named(id, secret)
end

local function normalised(handle, headers)
  local id = headers:get("client_id")
  if id ~= nil then
    local secret = headers:get("client_secret")
    if secret == nil or #id + #secret > LONGEST or id:find(":", 1, true) then return nil end
    return "Basic " .. handle:base64Escape(named(id, secret))
  end
  local value = headers:get("authorization")
  if value == nil or #value > LONGEST then return nil end
  local scheme, rest = value:match("^(%a+) +(%S+)$")
  if scheme == nil then return nil end
  scheme = scheme:lower()
  if scheme == "bearer" then
    local both = pair(rest)
    return both and "Basic " .. handle:base64Escape(both)
  end
  if scheme ~= "basic" then return nil end
  local text = decode(rest)
  if text ~= nil and text:sub(-1) == ":" then
    local both = pair(text:sub(1, -2))
    return both and "Basic " .. handle:base64Escape(both)
  end
  if text ~= nil and text:sub(-1) == "~" then
    local known, secret = text:match("^([^:]+):(.+)$")
    return known and "Basic " .. handle:base64Escape(named(known, secret))
  end
  return "Basic " .. rest
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local fine, value = pcall(normalised, handle, headers)
  if fine and value then
    headers:replace("authorization", value)
  else
    headers:remove("authorization")
  end
end
