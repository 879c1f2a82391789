// A few persistent threads that share out the tasks of one phase. Whoever is free takes the next task, so a thread that
// the scheduler has taken off its core delays at most the task in its hands; who waits for it soon sleeps, and so leaves it
// another core. Results do not depend on who computed what.
#pragma once
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace robotrl {

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Denormal numbers cost a hundred cycles each: flushed to zero inside an update, the caller's setting restored after.
class FlushDenormals {
#if defined(__x86_64__)
  unsigned saved_ = _mm_getcsr();

 public:
  FlushDenormals() { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushDenormals() { _mm_setcsr(saved_); }
#else
 public:
  FlushDenormals() {}
#endif
};

class Pool {
 public:
  using Task = void (*)(void* context, int task, int worker);

  explicit Pool(int threads) {
    try {
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { serve(i); });
    } catch (...) {  // one that runs and is destroyed without having been waited for would end the process
      stop();
      throw;
    }
  }
  ~Pool() { stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Run task(context, 0..count-1, worker) and return when all are done.
  void run(int count, Task task, void* context) {
    if (workers_.empty()) {
      for (int i = 0; i < count; ++i) task(context, i, 0);
      return;
    }
    publish(count, task, context);
    work(uint32_t(ticket_.load(std::memory_order_relaxed) >> 32), 0);
    finish(uint32_t(count));
  }

 private:
  static constexpr auto kSpin = std::chrono::microseconds(60);  // longer than a phase change, shorter than a time slice

  std::vector<std::thread> workers_;
  // Phase number, task count, next task (32, 16, 16 bits) in one word: a late thread can never take a task of a phase
  // it did not see.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  std::atomic<bool> awaited_{false};
  alignas(64) std::atomic<uint32_t> phase_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  Task task_ = nullptr;
  void* context_ = nullptr;

  void stop() {
    stopping_.store(true);
    publish(0, nullptr, nullptr);
    for (auto& w : workers_) w.join();
  }

  void publish(int count, Task task, void* context) {
    uint32_t phase = phase_.load(std::memory_order_relaxed) + 1;
    task_ = task, context_ = context;
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(uint64_t(phase) << 32 | uint64_t(count) << 16, std::memory_order_release);
    phase_.store(phase, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) wake(phase_);
  }

  void work(uint32_t phase, int worker) {
    uint64_t now = ticket_.load(std::memory_order_acquire);
    while (uint32_t(now >> 32) == phase) {
      int task = int(now & 0xffff), count = int(now >> 16 & 0xffff);
      if (task >= count) return;
      if (!ticket_.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) continue;
      task_(context_, task, worker);
      if (done_.fetch_add(1, std::memory_order_seq_cst) + 1 == uint32_t(count) && awaited_.load(std::memory_order_seq_cst))
        wake(done_);
      now = ticket_.load(std::memory_order_acquire);
    }
  }

  // Until all tasks are done.
  void finish(uint32_t count) {
    auto until = std::chrono::steady_clock::now() + kSpin;
    for (int i = 1; done_.load(std::memory_order_acquire) < count; ++i) {
      relax();
      if (i % 64 || std::chrono::steady_clock::now() < until) continue;
      awaited_.store(true, std::memory_order_seq_cst);
      const uint32_t done = done_.load(std::memory_order_seq_cst);
      if (done < count) sleep(done_, done);
      awaited_.store(false, std::memory_order_relaxed);
    }
  }

  void serve(int worker) {
    FlushDenormals flush;
    uint32_t seen = 0;
    while (true) {
      seen = wait(seen);
      if (stopping_.load()) return;
      work(seen, worker);
    }
  }

  uint32_t wait(uint32_t seen) {
    auto until = std::chrono::steady_clock::now() + kSpin;
    for (int i = 1;; ++i) {
      uint32_t phase = phase_.load(std::memory_order_acquire);
      if (phase != seen) return phase;
      relax();
      if (i % 64 || std::chrono::steady_clock::now() < until) continue;
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      sleep(phase_, seen);
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }
  }

  // Unless the word no longer is what it was; may return early.
  static void sleep(std::atomic<uint32_t>& word, uint32_t seen) {
#if defined(__linux__)
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
#else
    std::this_thread::yield();
#endif
  }

  static void wake(std::atomic<uint32_t>& word) {
#if defined(__linux__)
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
#endif
  }
};

}  // namespace robotrl
