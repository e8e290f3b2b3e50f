-- Refuses a request whose headers or address are larger than its route allows. What it cannot count it refuses.
local function excess(handle)
  local most = handle:filterContext()
  local headers = handle:headers()
  if #(headers:get(":path") or "") > (most:get("max_url_bytes") or math.huge) then return "414" end
  local count, bytes = 0, 0
  for name, value in pairs(headers) do
    -- what begins so was taken from the caller's own headers and is the gateway's by now
    local ours = name:sub(1, 1) == ":" or name == "x-request-id" or name:find("^x%-forwarded%-")
      or name:find("^x%-envoy%-") or name:find("^x%-tulle%-")
    if not ours then
      count, bytes = count + 1, bytes + #name + #value
      if #name + #value > (most:get("max_header_bytes") or math.huge) then return "431" end
    end
  end
  if count > (most:get("max_count") or math.huge) or bytes > (most:get("max_bytes") or math.huge) then return "431" end
  return nil
end

function envoy_on_request(handle)
  local fine, status = pcall(excess, handle)
  if not fine then status = "431" end
  if status ~= nil then handle:respond({[":status"] = status}, "") end
end
