// Errors of a device that last.
#pragma once

#include <atomic>
#include <string>

#include "core/errors.h"

namespace recsys_fast {

// The device's context is gone: every call fails until the process ends. The first report names what failed, later ones
// say that it was before.
class DeviceLost : public DeviceFailure {
 public:
  explicit DeviceLost(const std::string& what) : DeviceFailure(text(what)) {}

 private:
  static std::string text(const std::string& what) {
    static std::atomic<bool> known{false};
    static const std::string first = what;
    if (!known.exchange(true)) return what + ". The device's context is lost: start the process again";
    return "the device was lost before (" + first + "). Start the process again";
  }
};

}  // namespace recsys_fast
