-- Takes credentials from where a policy says that they may be, too, and puts them where they always are:
--   client_id and client_secret in the query
--   the API key in a header or a parameter of another name
-- What is found is taken away from there, so that no secret goes on to the service; so is what is where callers of other
-- operations show theirs. Credentials in their usual place
-- count before it. It admits nobody: the next filters check what it found, and an error in it leaves nothing to check.

local LONGEST = 512

local function plain(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- the parameters of these names, and the path without them; one that is there twice is nobody's
local function parted(path, wanted)
  local at = path:find("?", 1, true)
  if at == nil then return {}, path end
  local found, rest = {}, {}
  for part in path:sub(at + 1):gmatch("[^&]+") do
    local name, value = part:match("^([^=]*)=?(.*)$")
    name = plain(name)
    if wanted[name] then
      found[name] = found[name] == nil and plain(value) or false
    else
      rest[#rest + 1] = part
    end
  end
  local query = table.concat(rest, "&")
  return found, path:sub(1, at - 1) .. (query ~= "" and "?" .. query or "")
end

-- a value that may be put into a header
local function fit(text)
  return text and #text > 0 and #text <= LONGEST and not text:find("[^\33-\126]") and text or nil
end

local function moved(handle)
  local where, headers = handle:filterContext(), handle:headers()
  local wanted = {}
  for name in (where:get("hidden_query") or ""):gmatch("[^,]+") do wanted[name] = true end
  for name in (where:get("hidden_header") or ""):gmatch("[^,]+") do headers:remove(name) end
  if where:get("client_query") then wanted["client_id"], wanted["client_secret"] = true, true end
  if where:get("key_query") then wanted[where:get("key_query")] = true end
  local found, path = parted(headers:get(":path"), wanted)
  if path ~= headers:get(":path") then headers:replace(":path", path) end
  local key = where:get("key_query") and fit(found[where:get("key_query")])
  if where:get("key_header") then
    key = fit(headers:get(where:get("key_header"))) or key
    headers:remove(where:get("key_header"))
  end
  if headers:get("authorization") ~= nil or headers:get("client_id") ~= nil then return end
  local id, secret = fit(found["client_id"]), fit(found["client_secret"])
  if where:get("client_query") and id and secret then
    headers:replace("client_id", id)
    headers:replace("client_secret", secret)
  elseif key then
    headers:replace("authorization", "Bearer " .. key)
  end
end

function envoy_on_request(handle)
  if not pcall(moved, handle) then
    local headers = handle:headers()
    headers:remove("authorization")
    headers:remove("client_id")
  end
end
